"""Two runs against each other, cell by cell: what changed beyond noise, and what is only in one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.records import CellRecord
from bench.table import variant_labels
from reports.load import Results
from reports.outcomes import main_split, outcomes
from reports.statistics import LEVEL, holm, interval, sign_flip, smallest_p

if TYPE_CHECKING:
    from pandas import DataFrame

ROUNDING = 1e-4
"""Logits: what another machine or another number of rows a forward may do to E_0."""
BETTER, WORSE, NO_CHANGE = "better", "worse", "no change beyond noise"
SAME, TOO_FEW, OTHER_PROMPTS = "the same", "too few prompts to tell", "other prompts: not compared"
NOTHING_STORED = "nothing stored per prompt: not compared"
COLUMNS = (
    *("model", "task", "method", "seed", "draw", "E_0_here", "E_0_there", "difference"),
    *("low", "high", "p", "p_holm", "beta_here", "beta_there", "settings_changed", "verdict"),
)
Key = tuple[str, str, str, int, int]


@dataclass(frozen=True, eq=False)
class Changes:
    """The comparison of two runs, and what they are called."""

    here: str
    there: str
    frame: "DataFrame"

    @classmethod
    def of(cls, results: Results, against: Results) -> "Changes":
        """Compare two runs."""
        here, there = (one.store.directory.resolve().name for one in (results, against))
        return cls(here, there, table(results, against))

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each verdict, the most frequent first."""
        found = self.frame["verdict"].value_counts()
        return {str(verdict): int(count) for verdict, count in found.items()}

    @property
    def changed(self) -> "DataFrame":
        """The rows that say more than that nothing changed."""
        return self.frame[~self.frame["verdict"].isin([NO_CHANGE, SAME])]


def table(results: Results, against: Results) -> "DataFrame":
    """Return a row a cell of either run, in the order of `results`, with the columns of COLUMNS.

    Cells are matched by model, task, method, seed and draw. `difference` is E_0 here minus E_0
    there on the main split, with its 95 % interval over prompts; p is that of a permutation test
    on the same prompts, adjusted (Holm) for all cells of the model and task. `verdict` is of the
    cell here: better, worse, no change beyond noise, the same (to rounding), or why it cannot be
    said: only in one run, failed in one, other prompts, too few prompts. `settings_changed` names
    settings that differ.
    """
    from pandas import DataFrame

    here, there = _cells(results), _cells(against)
    e_0_here, e_0_there = _per_prompt(results), _per_prompt(against)
    rows = []
    for key in dict.fromkeys((*here, *there)):
        row: dict[str, Any] = dict(zip(COLUMNS, key, strict=False))
        a, b = here.get(key), there.get(key)
        row |= _described(a, b)
        row["values"] = [
            values.get(one.id) if one else None for one, values in ((a, e_0_here), (b, e_0_there))
        ]
        row["verdict"] = _why_not(a, b, row["values"])
        rows.append(row)
    for group in _groups(rows):
        _judge(group)
    return DataFrame([[row.get(name) for name in COLUMNS] for row in rows], columns=list(COLUMNS))


def _cells(results: Results) -> dict[Key, CellRecord]:
    found: dict[Key, CellRecord] = {}
    for pair in results.pairs():
        records = results.of(*pair)
        labels = variant_labels(records)
        for record in records:
            found[(*pair, labels[record.id], record.seed, record.draw)] = record
    return found


def _per_prompt(results: Results) -> dict[str, NDArray[np.float64]]:
    return {
        record.id: one.e_0[place]
        for pair in results.pairs()
        for one in outcomes(results, *pair).values()
        for place, record in enumerate(one.records)
    }


def _described(a: CellRecord | None, b: CellRecord | None) -> dict[str, Any]:
    changed = ""
    if a and b:
        keys = sorted({*a.settings, *b.settings})
        changed = ", ".join(key for key in keys if a.settings.get(key) != b.settings.get(key))
    betas = (one.beta.star if one and one.beta else None for one in (a, b))
    return {
        "settings_changed": changed,
        **dict(zip(("beta_here", "beta_there"), betas, strict=True)),
    }


def _why_not(a: CellRecord | None, b: CellRecord | None, values: list[Any]) -> str:
    """Why two cells cannot be compared; "" where they can."""
    if a is None or b is None:
        return "only here" if b is None else "only there"
    failed = [where for one, where in ((a, "here"), (b, "there")) if one.status == "failed"]
    if failed:
        return f"failed {' and '.join(failed)}"
    if any(value is None for value in values):
        return NOTHING_STORED
    split = main_split([a])
    same = [
        [(p.token_ids, p.answer_id, p.foil_id) for p in one.prompts.get(split, [])]
        for one in (a, b)
    ]
    return "" if same[0] == same[1] and len(values[0]) == len(values[1]) else OTHER_PROMPTS


def _groups(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows of each model and task that can be compared."""
    pairs = dict.fromkeys((row["model"], row["task"]) for row in rows)
    for pair in pairs:
        group = [r for r in rows if (r["model"], r["task"]) == pair and not r["verdict"]]
        if group:
            yield group


def _judge(group: list[dict[str, Any]]) -> None:
    """Fill in numbers and verdicts of one family of tests."""
    differences = [row["values"][0] - row["values"][1] for row in group]
    p = np.array([sign_flip(difference)[0] for difference in differences])
    for row, difference, raw, adjusted in zip(group, differences, p, holm(p), strict=True):
        low, high = interval(difference)
        here, there = (float(values.mean()) for values in row["values"])
        row |= {"E_0_here": here, "E_0_there": there, "difference": here - there}
        row |= {"low": low, "high": high, "p": float(raw), "p_holm": float(adjusted)}
        if np.abs(difference).max() <= ROUNDING:
            row["verdict"] = SAME
        elif smallest_p(len(difference)) * len(group) >= LEVEL:
            row["verdict"] = TOO_FEW
        elif adjusted < LEVEL and abs(here - there) > ROUNDING:
            row["verdict"] = BETTER if here > there else WORSE
        else:
            row["verdict"] = NO_CHANGE
