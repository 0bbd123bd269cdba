"""One-point steering: what the score of a point says of its own scalar, beyond site and layer."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from reports.labels import group_cells
from reports.load import Results, of_pairs, prompts_seed
from reports.statistics import means_of, t_interval


@of_pairs
def table(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    """Return a row a method and |beta| (`size`), largest gain first.

    `r2_site_layer` is how much of the response of LD to each point's own scalar its site and layer
    explain, `r2` with |score| beside them, both on prompts left out; `gain` is their difference,
    with Student's 95 % interval over prompts. Means over cells. Raises UserInputError for unknown
    names.
    """
    return sorted(_rows(results, model, task), key=lambda row: (row["size"], -row["gain"]))


def _rows(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    for label, group in group_cells(results.of(model, task)).items():
        cells = [(one, one.one_point) for one in group if one.one_point is not None]
        for at in range(len(cells[0][1].fits) if cells else 0):
            fits = [record.fits[at] for _, record in cells]
            of_prompt: dict[tuple[Any, int], list[float]] = {}
            for (cell, _), fit in zip(cells, fits, strict=True):
                for prompt, gain in enumerate(fit.gains):
                    of_prompt.setdefault((prompts_seed(cell), prompt), []).append(gain)
            interval = t_interval([float(np.mean(gains)) for gains in of_prompt.values()])
            yield {
                **{"method": label, "control": group[0].control},
                **{"size": fits[0].size, "n_cells": len(cells)},
                **{"n_points": cells[0][1].n_points, "n_prompts": len(of_prompt)},
                **means_of(fits, ("r2_site_layer", "r2", "gain")),
                **{"low": interval.low, "high": interval.high},
            }
