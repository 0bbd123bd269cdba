"""Claims about trade-offs over a grid of settings (Fig. 2) and about parameters."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from bench.agreement.table import kendall
from reports.claims.claim import EXACT, Measured, PaperResults
from reports.fronts import PLANES, Plane, blind, grid_points, resampled_shares, shares
from reports.text import number
from tasks.errors import UserInputError

GRID = "fig2"
RESAMPLES = 500


def share_of_front(
    source: PaperResults, plane: str, method: str = "activ_scalar", *, at_price: bool = False
) -> Measured:
    """The share of the common front on test that a method holds, averaged over tasks.

    The interval resamples test prompts, the same ones for every cell of a task. With `at_price` E_0
    is that at the main price; parameters are those of the intervention as it was trained.
    """
    results = source.results(GRID)
    values: list[float] = []
    draws: list[NDArray[np.float64]] = []
    cells: list[str] = []
    notes: list[str] = []
    doubts: list[str] = []
    prompts: list[int] = []
    for model, task in results.pairs():
        found = grid_points(results, model, task, at_price=at_price)
        test = found[found["split"] == "test"]
        chosen = PLANES[plane]
        other = chosen.maximised(test[chosen.column].to_numpy(float))
        share = shares(test["method"], test["E_0"].to_numpy(float), other).get(method, np.nan)
        values.append(share)
        resampled = resampled_shares(results, found, plane, RESAMPLES, at_price=at_price)
        draws.append(resampled[method])
        prompts += [len(one.prompts["test"]) for one in results.of(model, task) if one.prompts]
        cells += list(test["cell"])
        notes.append(f"{model} · {task}: {number(100 * share, 0)} %{_fewest(test, chosen)}")
        doubts += [
            f"the count of 0.01 and more is blind: {method} steers where it is 0 or not meaningful"
            for method in (blind(test) if plane == "minimality" else ())
        ]
    drawn, n = list(np.mean(draws, axis=0)), min(prompts)
    measured = Measured.of_draws(
        float(np.mean(values)), drawn, n, "test prompts", cells, "; ".join(notes)
    )
    return replace(measured, doubt="; ".join(dict.fromkeys(doubts)))


def _fewest(test: DataFrame, plane: Plane) -> str:
    """What each method needs at least where it is most effective; "" for a plane without counts."""
    if not plane.counts:
        return ""
    found = []
    for method, own in test.groupby("method", sort=False):
        best = own[own["E_0"] == own["E_0"].max()]
        found.append(f"{method} {number(best[plane.column].min(), 0)}")
    return f" (at its best E₀ {', '.join(found)})"


def effectiveness_against_faithfulness(source: PaperResults) -> Measured:
    """Kendall's tau over settings between E_0 on train and F on test, averaged over tasks.

    The interval draws the settings anew.
    """
    results = source.results(GRID)
    values, cells = [], []
    draws: list[list[float]] = []
    settings: list[int] = []
    generator = np.random.default_rng(0)
    for pair in results.pairs():
        found = grid_points(results, *pair)
        splits = found.pivot_table(index="cell", columns="split", values=["E_0", "F"], sort=False)
        known = splits.dropna(subset=[("E_0", "train"), ("F", "test")])
        ids = list(known.index)
        effective, faithful = known["E_0"]["train"].to_numpy(), known["F"]["test"].to_numpy()
        values.append(kendall(effective, faithful))
        cells += ids
        settings.append(len(ids))
        drawn = generator.integers(len(ids), size=(RESAMPLES, len(ids)))
        draws.append([kendall(effective[chosen], faithful[chosen]) for chosen in drawn])
    drawn_taus = list(np.mean(draws, axis=0))
    return Measured.of_draws(float(np.mean(values)), drawn_taus, min(settings), "settings", cells)


def parameters(source: PaperResults) -> Measured:
    """How many parameters SteerVec has for one of ActivScalar, on the same points.

    Exact, so the interval is the number itself: d_model.
    """
    by_task: dict[str, dict[str, set[int]]] = {}
    cells = []
    for record in source.results(GRID).records:
        name = record.settings["method"]["name"] if record.status == "done" else ""
        if record.minimality is not None and name in ("activ_scalar", "steer_vec"):
            of_task = by_task.setdefault(record.task, {})
            of_task.setdefault(name, set()).add(record.minimality.n_parameters)
            cells.append(record.id)
    ratios, notes = [], []
    for task, counts in sorted(by_task.items()):
        if [len(found) for found in counts.values()] == [1, 1]:
            (scalars,), (entries,) = counts["activ_scalar"], counts["steer_vec"]
            ratios.append(entries / scalars)
            notes.append(f"{task}: {scalars:,} against {entries:,}")
    if not ratios:
        raise UserInputError("no task has finished cells of both activ_scalar and steer_vec")
    low, high = min(ratios), max(ratios)
    return Measured(ratios[0], low, high, EXACT, tuple(cells), "; ".join(notes))
