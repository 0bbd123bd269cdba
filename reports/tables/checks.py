"""Does the map change where it has to, and does the intervention leave other prompts alone?"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.store.records import CellRecord
from bench.store.sanity_record import map_changes
from reports.labels import group_cells
from reports.load import Results, of_pairs
from reports.statistics import means_of


@of_pairs
def sanity(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a method and map that should differ from its own.

    `what` was permuted, weights of the last `layers` layers or answers; `rho` is Spearman's rank
    correlation of scores with the own map, `size_rho` of |score|, `shared` the share of the 16
    largest that both have, `size` the mean |score| over that of the own map; means over cells.
    `map_changes` is said of the map with all layers permuted. Raises UserInputError for unknown
    names.
    """
    for label, group in group_cells(results.of(model, task)).items():
        stored = [one.sanity for one in group if one.sanity]
        for what, layers in dict.fromkeys(
            (row.what, row.layers) for one in stored for row in one.rows
        ):
            rows = [
                row for s in stored for row in s.rows if (row.what, row.layers) == (what, layers)
            ]
            means = means_of(rows, ("rho", "size_rho", "shared", "size"))
            deepest = stored[0].deepest
            whole = deepest is not None and (what, layers) == (deepest.what, deepest.layers)
            changes = map_changes(means["rho"], means["size_rho"])
            yield {
                **{"method": label, "what": what, "layers": layers},
                **{name: means[name] for name in ("rho", "size_rho", "shared")},
                **means_of(stored, ["shared_by_chance"]),
                **{"size": means["size"], "map_changes": changes if whole else None},
                **{"n_cells": len(rows), "n_prompts": stored[0].n_prompts},
                "n_points": stored[0].n_points,
            }


@of_pairs
def specificity(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a method and kind of prompts, its own task first.

    `ld_change` is the mean |LD - LD unsteered| and `kl` the mean divergence a token (nats) of one
    sign, at the strength at which methods are compared; `ld_share` and `kl_share` are these over
    those of the own task. `moved` is the share of the intervention's points that prompts there
    have. Means over cells. Raises UserInputError for unknown names.
    """
    for label, group in group_cells(results.of(model, task)).items():
        rows = [row for one in group if one.specificity for row in one.specificity.rows]
        own: dict[str, float] = {}
        for where, kind in {row.where: row.kind for row in rows}.items():
            found = [row for row in rows if row.where == where]
            means = means_of(found, ("ld_change", "kl", "moved"))
            own = own or means
            ld, kl = (means[name] / (own[name] or np.nan) for name in ("ld_change", "kl"))
            yield {
                **{"method": label, "kind": kind, "where": where},
                **{"ld_change": means["ld_change"], "ld_share": ld},
                **{"kl": means["kl"], "kl_share": kl, "moved": means["moved"]},
                **{"n_cells": len(found), "n_prompts": found[0].n_prompts},
            }


def of_leaderboard(records: Sequence[CellRecord]) -> dict[str, Any]:
    """Return what the leaderboard says of a method's checks: None for what was not measured.

    `map_changes` as in `sanity`; `kl_elsewhere` and `kl_neutral` are the divergence a token (nats)
    on other tasks, each counting alike, and on the neutral text.
    """
    deepest = [row for one in records if one.sanity and (row := one.sanity.deepest)]
    rho = means_of(deepest, ("rho", "size_rho")) if deepest else None
    found: dict[str, Any] = {"map_changes": map_changes(**rho) if rho else None}
    for name, kind in (("elsewhere", "task"), ("neutral", "neutral")):
        means = [one.specificity.mean("kl", kind) for one in records if one.specificity]
        known = [mean for mean in means if mean is not None]
        found[f"kl_{name}"] = float(np.mean(known)) if known else None
    return found
