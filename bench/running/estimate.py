"""How long cells will take, before they are computed.

The cost of a cell is counted in rows of a forward: so many for its fit, its tuning and its
evaluation. What a row costs comes from finished cells of the same model where there are any, and
for the embedded model on two cores else from `SECONDS_A_ROW`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

SECONDS_A_ROW: Mapping[str, float] = {"smollm2-135m": 0.018}
"""One prompt of 24 tokens through the model; measured on two cores of a server without a GPU."""

BACKWARD = 2.4
"""A row of a training step, in rows of a forward."""
TUNED_STRENGTHS = 36
"""Strengths that tuning runs on every train prompt; others are given up (`evaluation.beta`)."""
EVALUATIONS_OF_K = 8
PATCHED_PROMPT = {"activ_patch": 320.0}
"""Rows of a forward that patching all points of one prompt at two sites costs."""
GAUSSIAN_DRAWS = 10


class Cell(Protocol):
    """What an estimate needs to know of a cell."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the cell's numbers."""
        ...


class Finished(Cell, Protocol):
    """A stored cell; `bench.store.records.CellRecord` is one."""

    @property
    def status(self) -> str:
        """ "done" or "failed"."""
        ...

    @property
    def seconds(self) -> float:
        """What it took."""
        ...


def estimated_seconds(cells: Sequence[Cell], finished: Iterable[Finished] = ()) -> float | None:
    """About how long `cells` take, in seconds; None where nothing is known of a model.

    Args:
        cells: what is to be computed.
        finished: stored cells, of these models or others.
    """
    rates = _rates(finished)
    total = 0.0
    for cell in cells:
        model, method = cell.settings["model"]["name"], cell.settings["method"]["name"]
        rate = rates.get((model, method)) or rates.get((model, "")) or SECONDS_A_ROW.get(model)
        if rate is None:
            return None
        total += rate * forward_rows(cell.settings)
    return total


def _rates(finished: Iterable[Finished]) -> dict[tuple[str, str], float]:
    """Seconds a row of (model, method), and of (model, "") over all its methods."""
    spent: dict[tuple[str, str], list[float]] = {}
    for cell in finished:
        if cell.status == "done" and cell.seconds and "method" in cell.settings:
            try:
                rows = forward_rows(cell.settings)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                continue  # a cell that somebody else made says nothing about ours
            for method in (cell.settings["method"]["name"], ""):
                sums = spent.setdefault((cell.settings["model"]["name"], method), [0.0, 0.0])
                sums[0] += cell.seconds
                sums[1] += rows
    return {key: seconds / rows for key, (seconds, rows) in spent.items() if rows > 0}


def forward_rows(settings: Mapping[str, Any]) -> float:
    """About how many rows of a forward a cell costs."""
    prompts, method, sweep = settings["prompts"], settings["method"], settings["sweep"]
    trained = "epochs" in method
    if trained:
        fit = 2 * BACKWARD * method["epochs"] * prompts["train"]
    else:
        draws = GAUSSIAN_DRAWS if method.get("corruption") == "gaussian" else 1
        per_prompt = PATCHED_PROMPT.get(method["name"], 3.0) * len(settings["sites"]) / 2
        fit = (draws * per_prompt + TUNED_STRENGTHS) * prompts["train"]
    strengths = 2 if trained else 4
    evaluated = strengths * (prompts["train"] + prompts["test"] + prompts["shifted"])
    swept = 2 * sweep["prompts"] * (sweep["points"] - 1)
    a_size = TUNED_STRENGTHS * prompts["train"] + 2 * prompts["test"]
    sparse = settings.get("sparsity", {}).get("points", 0) * a_size
    counted = 2 * EVALUATIONS_OF_K * prompts["train"]
    in_full = swept + counted if not method.get("draw") else 0  # see `Method.number_of_draw`
    return float(fit + evaluated + in_full + sparse)


def in_words(seconds: float | None) -> str:
    """A duration as people say it: `about 12 min`."""
    if seconds is None:
        return "an unknown time (nothing has been measured on this model yet)"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"about {round(minutes)} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
