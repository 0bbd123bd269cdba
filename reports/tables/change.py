"""Two runs against each other, cell by cell: what changed beyond noise, and what is only in one.

Which cells are compared: candidates for each other are those whose model, task, method (by name),
seed, draw and draw of prompts are the same, and of a shuffled control what it shuffles. Among
candidates those with equal settings belong together; of the rest the two that differ least, as long
as no other is as near: where two settings of one run are equally near to one of the other, nobody
knows which became it.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pandas import DataFrame

from bench.store.records import CellRecord
from bench.store.tidy import flat_settings
from reports.load import Results, frame_of, labels_of, parent_of, plain_name, prompts_seed
from reports.outcomes import Prompt, outcomes
from reports.statistics import LEVEL, holm, interval, sign_flip
from reports.tables.paired import too_few, undefined

Pair = tuple[CellRecord | None, CellRecord | None]
NOT_COMPARED = {"parent", "task.path", "model.name"}
"""Settings that decide no number: where a file lies; whose digest is another setting."""
NONE = "none"

ROUNDING = 1e-4
"""Logits: what another machine or another number of rows a forward may do to E_0."""
BETTER, WORSE, NO_CHANGE = "better", "worse", "no change beyond noise"
SAME, OTHER_PROMPTS = "the same", "other prompts: not compared"
NOTHING_STORED = "nothing stored per prompt: not compared"
COLUMNS = (
    *("model", "task", "method", "seed", "draw", "prompts_seed", "n_prompts"),
    *("E_0_here", "E_0_there", "difference", "low", "high", "p", "p_holm"),
    *("beta_here", "beta_there", "settings_changed", "verdict"),
)
PAPER = ("task", "method", "seed", "E 0 here", "E 0 there", "difference", "p holm", "verdict")
"""Columns of the LaTeX table, as shown."""


@dataclass(frozen=True, eq=False)
class Changes:
    """The comparison of two runs, and what they are called."""

    here: str
    there: str
    frame: DataFrame

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
    def changed(self) -> DataFrame:
        """The rows that say more than that nothing changed."""
        return self.frame[~self.frame["verdict"].isin([NO_CHANGE, SAME])]


def table(results: Results, against: Results) -> DataFrame:
    """Return a row a cell of either run, in the order of `results`, with the columns of COLUMNS.

    `settings_changed` says what differs between the two. `difference` is E_0 here minus E_0 there
    on the `n_prompts` of the main split that both saw, with its 95 % interval over prompts; p is
    that of a permutation test on these prompts, adjusted (Holm) for all cells of the model and
    task.

    `verdict` is of the cell here: better, worse, no change beyond noise, the same (to rounding), or
    why it cannot be said: only in one run, failed or missing in one, other prompts, too few of
    them, a value that is no number.
    """
    sides = (results, against)
    labels, values = zip(
        *((labels_of(one.records), _per_prompt(one)) for one in sides), strict=True
    )
    rows = []
    for pair in matched(results, against):
        known = [(side, one) for side, one in enumerate(pair) if one is not None]
        side, record = known[0]
        row = {name: getattr(record, name) for name in ("model", "task", "seed", "draw")}
        row |= {"method": labels[side][record.id], "prompts_seed": prompts_seed(record)}
        here, there = (one.beta.star if one and one.beta else None for one in pair)
        row |= {"beta_here": here, "beta_there": there, "settings_changed": settings_changed(*pair)}
        stored = [values[side].get(one.id) for side, one in known]
        row["verdict"] = _why_not(pair, stored, sides)
        if not row["verdict"]:
            shared = [prompt for prompt in stored[0] if prompt in stored[1]]
            row["values"] = np.array([[one[prompt] for prompt in shared] for one in stored])
            row["verdict"] = "" if row["values"].size else OTHER_PROMPTS
        rows.append(row)
    for where in dict.fromkeys((row["model"], row["task"]) for row in rows):
        _judge([r for r in rows if (r["model"], r["task"]) == where and not r["verdict"]])
    return frame_of(rows, COLUMNS)


def matched(here: Results, there: Results) -> list[Pair]:
    """Return every cell of two runs once, with its partner or None, in the order of `here`."""
    candidates: dict[Hashable, tuple[list[CellRecord], list[CellRecord]]] = {}
    for side, results in enumerate((here, there)):
        for record in results.records:
            candidates.setdefault(_key(record), ([], []))[side].append(record)
    partners: dict[str, CellRecord] = {}
    for ours, theirs in candidates.values():
        partners |= {a.id: b for a, b in _nearest(ours, theirs)}
    taken = {record.id for record in partners.values()}
    pairs: list[Pair] = [(record, partners.get(record.id)) for record in here.records]
    return pairs + [(None, record) for record in there.records if record.id not in taken]


def _key(record: CellRecord) -> Hashable:
    of = parent_of(record) if record.control else None
    return (
        *(record.model, record.task, plain_name(record.method), of and plain_name(of)),
        *(record.seed, record.draw, prompts_seed(record)),
    )


def _nearest(
    ours: list[CellRecord], theirs: list[CellRecord]
) -> Iterator[tuple[CellRecord, CellRecord]]:
    """Pair candidates: equal settings first, then the nearest, each the other's only nearest."""
    settings = {id(one): _settings(one) for one in (*ours, *theirs)}
    ours, theirs = list(ours), list(theirs)
    while ours and theirs:
        distance = [
            [len(_differing(settings[id(a)], settings[id(b)])) for b in theirs] for a in ours
        ]
        columns = list(zip(*distance, strict=True))
        found = [
            (a, b)
            for a, row in enumerate(distance)
            for b, apart in enumerate(row)
            if apart == min(row) == min(columns[b])
            and Counter(row)[apart] == Counter(columns[b])[apart] == 1
        ]
        if not found:
            return
        yield from ((ours[a], theirs[b]) for a, b in found)
        ours = [one for place, one in enumerate(ours) if place not in {a for a, _ in found}]
        theirs = [one for place, one in enumerate(theirs) if place not in {b for _, b in found}]


def _settings(record: CellRecord) -> dict[str, str]:
    return {k: v for k, v in flat_settings(record.settings).items() if k not in NOT_COMPARED}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*a, *b} if a.get(key) != b.get(key))


def settings_changed(a: CellRecord | None, b: CellRecord | None) -> str:
    """Return which settings differ, as `method.learning_rate=0.02 (there 0.01)`; "" for none."""
    if a is None or b is None:
        return ""
    here, there = _settings(a), _settings(b)
    return ", ".join(
        f"{key}={here.get(key, NONE)} (there {there.get(key, NONE)})"
        for key in _differing(here, there)
    )


def _per_prompt(results: Results) -> dict[str, dict[Prompt, float]]:
    """E_0 of every prompt of the main split by cell id."""
    return {
        record.id: {
            prompt: float(one.e_0[cell, column])
            for column, prompt in enumerate(one.prompts)
            if one.seen[cell, column]
        }
        for pair in results.pairs()
        for one in outcomes(results, *pair).values()
        for cell, record in enumerate(one.records)
    }


def _why_not(pair: Pair, stored: list[Any], sides: tuple[Results, ...]) -> str:
    """Why two cells cannot be compared; "" where they can."""
    words = ("here", "there")
    for place, one in enumerate(pair):
        if one is not None and pair[1 - place] is None:
            status = _status(one, sides[1 - place])
            return f"{status} {words[1 - place]}" if status else f"only {words[place]}"
    if failed := [
        word for one, word in zip(pair, words, strict=True) if one and one.status == "failed"
    ]:
        return f"failed {' and '.join(failed)}"
    return "" if all(stored) else NOTHING_STORED


def _status(record: CellRecord, results: Results) -> str:
    """Why a run that has no record of such a cell has none; "" where nobody wanted it there."""
    names = ("model", "task", "method", "seed", "draw")
    for one in results.missing:
        same = all(getattr(one, name) == getattr(record, name) for name in names)
        if one.counts and (one.cell == record.id or (same and not one.varied)):
            return one.status
    return ""


def _judge(group: list[dict[str, Any]]) -> None:
    """Fill in numbers and verdicts of one family of tests."""
    p = np.array([float(sign_flip(row["values"][0] - row["values"][1])[0]) for row in group])
    family = int(np.isfinite(p).sum())
    for row, raw, adjusted in zip(group, p, holm(p), strict=True):
        difference = row["values"][0] - row["values"][1]
        low, high = interval(difference)
        here, there = (float(values.mean()) for values in row["values"])
        row |= {"n_prompts": len(difference), "E_0_here": here, "E_0_there": there}
        row |= {"difference": here - there, "low": low, "high": high}
        row |= {"p": float(raw), "p_holm": float(adjusted)}
        row["verdict"] = _verdict(row, float(adjusted), family)


def _verdict(row: dict[str, Any], p_holm: float, family: int) -> str:
    here, there = row["values"]
    if why := undefined(**{"this run": here, "the other": there}):
        return why
    if np.abs(here - there).max() <= ROUNDING:
        return SAME
    if why := too_few(len(here), family):
        return why
    if p_holm < LEVEL and abs(row["difference"]) > ROUNDING:
        return BETTER if row["difference"] > 0 else WORSE
    return NO_CHANGE
