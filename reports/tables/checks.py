"""Does the map change where it has to, and does the intervention leave other prompts alone?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pandas import DataFrame

from bench.store.records import CellRecord
from bench.store.sanity_record import SanityRow, map_changes
from reports.labels import group_cells
from reports.load import Results
from reports.tables.paired import frame_of

SANITY = (
    *("model", "task", "method", "what", "layers", "rho", "size_rho", "shared"),
    *("shared_by_chance", "size", "map_changes", "n_cells", "n_prompts", "n_points"),
)
SPECIFICITY = (
    *("model", "task", "method", "kind", "where", "ld_change", "ld_share", "kl", "kl_share"),
    *("moved", "n_cells", "n_prompts"),
)
COMPARED = ("rho", "size_rho", "shared", "size")


def sanity(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method and map that should differ from its own, with the columns of SANITY.

    `what` was permuted, weights of the last `layers` layers or answers; `rho` is Spearman's rank
    correlation of scores with the own map, `size_rho` of |score|, `shared` the share of the 16
    largest that both have, `size` the mean |score| over that of the own map; means over cells.
    `map_changes` is said of the map with all layers permuted. Raises UserInputError for unknown
    names.
    """
    rows: list[dict[str, Any]] = []
    for pair in results.pairs_of(model, task):
        for label, group in group_cells(results.of(*pair)).items():
            records = [one for one in group if one.sanity]
            for place in _places(records):
                rows.append(dict(zip(("model", "task"), pair, strict=True)) | {"method": label})
                rows[-1] |= _sanity_row(records, place)
    return frame_of(rows, SANITY)


def _places(records: Sequence[CellRecord]) -> list[tuple[str, int]]:
    """What was permuted of some cell, in the order of the first."""
    found = [(row.what, row.layers) for one in records if one.sanity for row in one.sanity.rows]
    return list(dict.fromkeys(found))


def _sanity_row(records: Sequence[CellRecord], place: tuple[str, int]) -> dict[str, Any]:
    stored = [one.sanity for one in records if one.sanity]
    rows: list[SanityRow] = [
        row for one in stored for row in one.rows if (row.what, row.layers) == place
    ]
    means = {name: float(np.mean([getattr(row, name) for row in rows])) for name in COMPARED}
    deepest = stored[0].deepest
    whole = deepest is not None and place == (deepest.what, deepest.layers)
    return {
        **{"what": place[0], "layers": place[1], **means},
        "shared_by_chance": float(np.mean([one.shared_by_chance for one in stored])),
        "map_changes": map_changes(means["rho"], means["size_rho"]) if whole else None,
        **{"n_cells": len(rows), "n_prompts": stored[0].n_prompts},
        "n_points": stored[0].n_points,
    }


def specificity(
    results: Results, *, model: str | None = None, task: str | None = None
) -> DataFrame:
    """Return a row a method and kind of prompts, its own task first, with the columns SPECIFICITY.

    `ld_change` is the mean |LD - LD unsteered| and `kl` the mean divergence a token (nats) of one
    sign, at the strength at which methods are compared; `ld_share` and `kl_share` are these over
    those of the own task. `moved` is the share of the intervention's points that prompts there
    have. Means over cells. Raises UserInputError for unknown names.
    """
    rows: list[dict[str, Any]] = []
    for pair in results.pairs_of(model, task):
        for label, group in group_cells(results.of(*pair)).items():
            stored = [one.specificity for one in group if one.specificity]
            of_method = {row.where: row.kind for one in stored for row in one.rows}
            own: dict[str, float] = {}
            for where, kind in of_method.items():
                found = [row for one in stored for row in one.rows if row.where == where]
                means = {
                    name: float(np.mean([getattr(row, name) for row in found]))
                    for name in ("ld_change", "kl", "moved")
                }
                own = own or means
                rows.append(
                    {
                        **{"model": pair[0], "task": pair[1], "method": label},
                        **{"kind": kind, "where": where, **means},
                        "ld_share": _share(means["ld_change"], own["ld_change"]),
                        "kl_share": _share(means["kl"], own["kl"]),
                        **{"n_cells": len(found), "n_prompts": found[0].n_prompts},
                    }
                )
    return frame_of(rows, SPECIFICITY)


def _share(value: float, own: float) -> float:
    return value / own if own else float("nan")


def of_leaderboard(records: Sequence[CellRecord]) -> dict[str, Any]:
    """Return what the leaderboard says of a method's checks: None for what was not measured.

    `map_changes` as in `sanity`; `kl_elsewhere` and `kl_neutral` are the divergence a token (nats)
    on other tasks, each counting alike, and on the neutral text.
    """
    deepest = [row for one in records if one.sanity and (row := one.sanity.deepest)]
    rho, size_rho = (
        float(np.mean([getattr(row, name) for row in deepest])) if deepest else None
        for name in ("rho", "size_rho")
    )
    found: dict[str, Any] = {}
    for name, kind in (("elsewhere", "task"), ("neutral", "neutral")):
        means = [one.specificity.mean("kl", kind) for one in records if one.specificity]
        known = [mean for mean in means if mean is not None]
        found[f"kl_{name}"] = float(np.mean(known)) if known else None
    changes = None if rho is None or size_rho is None else map_changes(rho, size_rho)
    return {"map_changes": changes, **found}
