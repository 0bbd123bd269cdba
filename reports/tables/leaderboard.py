"""The leaderboard: per model and task one row a method, from the records alone.

`leaderboard` has the numbers at full precision; `reports.present` writes them for people.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
from pandas import DataFrame

from bench.store.records import CellRecord
from reports.labels import group_cells, missing_by_label
from reports.load import Results, frame_of, judged, once, splits_of
from reports.missing import FAILED, NOT_COMPUTED, Missing, grouped
from reports.tables.checks import of_leaderboard
from reports.tables.curves import curves
from reports.tables.verdicts import intervals, verdicts
from reports.text import known

VERDICTS = ("against_best", "against_controls", "localises")
INTERVALS = ("prompts_low", "prompts_high", "seeds_low", "seeds_high")
FEW_POINTS = ("localisation", "localisation_prompts_low", "localisation_prompts_high")
"""The share of the unsteered E_0 that they make up for; its ends are those of the area."""
PER_SPLIT = ("E_0", "E_0_unsteered", "F", "flips_plus", "flips_minus", "mass", "mass_unsteered")


def leaderboard(results: Results, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return one row per model, task and method, best E_0 on the test split first, failures last.

    Columns: model, task, method, trained, control, status ("done"; of a method with no finished
    cell why not: see `reports.missing`; with some: "partly failed", "partly computed" ...), n_cells
    (finished: draws of a control, seeds and draws of prompts of a method), n_missing, and

    - price: that at which methods are compared, in nats on train; missing where none was chosen;
    - `<quantity>_<split>` for the quantities of `PER_SPLIT` at the strength chosen for that price,
      so that -F is what is paid on the split; without a price at beta*, of trained methods at 1;
    - `E_0_<split>_at_star` at beta* (trained methods: beta = 1), which is the paper's, and
      `paid_<split>_at_star`, -F there;
      `E_0_<split>_at_one` at beta = 1;
    - localisation: the share of the unsteered E_0 that the k strongest points make up for at one
      price, averaged over log k (`localisation_prompts_low`, `_high`: 95 % over prompts);
    - minimality_count (missing where it is not meaningful), minimality_meaningful, smallest_k,
      n_parameters, minimality_unit, beta_star;
    - map_changes, kl_elsewhere, kl_neutral: see `reports.tables.checks`; missing where that was not
      measured;
    - seconds, forward_rows, backward_rows (means over cells), error (why cells are missing).
    - against_best, against_controls, localises: see `reports.tables.verdicts`;
    - `E_0_<split>_prompts_low`, `_high` and `E_0_<split>_seeds_low`, `_high`: 95 % intervals from
      prompts and from seeds (or draws of a control) drawn again; NaN where there are too few.

    Over several draws or seeds a number is their mean, with `_low` and `_high` (smallest and
    largest) beside it. A NaN is an undefined result; a missing value (None) is no result. Cells
    that differ in settings get rows of their own, and what differs stands behind the method.
    Raises UserInputError for a model or task that the run does not have.
    """
    pairs = sorted(results.pairs_of(model, task))
    rows = [row for pair in pairs for row in _rows(results, *pair)]
    return frame_of(rows)


@once
def _rows(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    splits = splits_of(results.records)
    groups = group_cells(results.of(model, task))
    absent = missing_by_label(results, model, task)
    said = verdicts(results, model, task)
    areas = {one.label: one for one in curves(results, model, task, "localisation")}
    ranges = [intervals(results, model, task, split) for split in splits]
    rows = []
    for label in dict.fromkeys((*groups, *absent)):
        row = _row(label, groups.get(label, []), absent.get(label, []), splits)
        row |= {"model": model, "task": task, **dict.fromkeys(VERDICTS)}
        area = areas.get(label)
        shares = map(area.made_up, (area.area, *area.area_interval)) if area else (None,) * 3
        row |= dict(zip(FEW_POINTS, shares, strict=True))
        row |= {f"E_0_{split}_{what}": None for split in splits for what in INTERVALS}
        for found in ranges:
            row |= found.get(label, {})
        row |= said.get(label, {})
        rows.append(row)
    reached = {row["method"]: row.get("E_0_test", row.get("E_0_train")) for row in rows}
    ranked = {label: -value if known(value) else inf for label, value in reached.items()}
    return sorted(rows, key=lambda row: (ranked[row["method"]], row["method"]))


def _row(
    label: str, group: list[CellRecord], missing: list[Missing], splits: list[str]
) -> dict[str, Any]:
    cells = [record for record in group if record.status == "done"]
    one: CellRecord | Missing = group[0] if group else missing[0]
    row: dict[str, Any] = {
        **{"model": None, "task": None, "method": label},
        **{"trained": one.trained, "control": one.control},
        **{"status": _status(bool(cells), missing), "n_cells": len(cells)},
        "n_missing": len(missing),
        "price": next((one.main_price.price for one in cells if one.main_price), None),
    }
    for split in splits:
        tuned, at_one, compared = [], [], []
        for record in cells:
            own = judged(record, split)
            tuned += own
            ones = [one for one in record.metrics if (one.split, one.beta_kind) == (split, "one")]
            at_one += ones
            if record.main_price is not None:  # other tasks have no price
                own = judged(record, split, at_price=True) or ones
            compared += own
        for name in PER_SPLIT:
            row |= _aggregate(f"{name}_{split}", [getattr(one, name) for one in compared])
        row |= _aggregate(f"E_0_{split}_at_star", [one.E_0 for one in tuned])
        row |= _aggregate(f"paid_{split}_at_star", [-one.F for one in tuned])
        row |= _aggregate(f"E_0_{split}_at_one", [one.E_0 for one in at_one])
    minimality = [record.minimality for record in cells if record.minimality]
    meaningful = bool(minimality) and all(one.meaningful for one in minimality)
    row["minimality_meaningful"] = meaningful
    row |= _aggregate("minimality_count", [one.count for one in minimality if meaningful])
    # A draw that gains nothing has no k; the mean of the others would flatter the method.
    smallest = [one.smallest_k for one in minimality if one.searched]
    row |= _aggregate("smallest_k", [] if None in smallest else smallest)
    row["n_parameters"] = next((one.n_parameters for one in minimality), None)
    row["minimality_unit"] = next((one.unit for one in minimality), None)
    row |= _aggregate("beta_star", [one.beta.star for one in cells if one.beta])
    row["seconds"] = _mean([one.seconds or None for one in cells])
    for name in ("forward_rows", "backward_rows"):
        row[name] = _mean([(one.provenance.get("passes") or {}).get(name) for one in cells])
    row |= of_leaderboard(cells)
    row["error"] = _reasons(missing)
    return row


def _status(some: bool, missing: list[Missing]) -> str:
    worst = missing[0].status if missing else "done"
    if not missing or not some:
        return worst
    return "partly computed" if worst == NOT_COMPUTED else f"partly {worst}"


def _reasons(missing: list[Missing]) -> str | None:
    """Why cells are missing, each reason once, with how many cells have it where several do."""
    texts = []
    for row in grouped(missing):
        named = row["reason"] if row["status"] == FAILED else f"{row['status']}: {row['reason']}"
        texts.append(named if row["n_cells"] == 1 else f"{named} ({row['n_cells']} cells)")
    return "; ".join(texts) or None


def _aggregate(name: str, values: Sequence[float | None]) -> dict[str, float | None]:
    """Return {name: mean, name_low: ..., name_high: ...}; the range only where there are two."""
    found = [float(value) for value in values if value is not None]
    several = len(found) > 1
    return {
        name: _mean(found),
        f"{name}_low": float(np.min(found)) if several else None,
        f"{name}_high": float(np.max(found)) if several else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None
