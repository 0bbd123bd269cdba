"""Claims about what trained methods learn and how far it reaches (Fig. 3, 4, 6, 7, Table 2)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pandas import DataFrame, Series

from reports.claims.claim import Measured, PaperResults
from reports.figures.generalisation import by_refit
from reports.figures.transfer import scores
from reports.figures.vectors import seeds_of
from reports.load import judged
from reports.statistics import AT_MOST_1
from reports.tables.paired import PRICES_DIFFER, SAME_PRICE
from reports.text import number
from tasks.errors import UserInputError

DRAWS = "draws of prompts"


def drop(source: PaperResults, more: str, less: str, *, at_price: bool = False) -> Measured:
    """How much more E_0 one method loses from train to test than another, refit by refit."""
    return _paired(source, more, less, lambda of: of["train"] - of["test"], "test", at_price)


def gain_elsewhere(
    source: PaperResults, better: str, worse: str, *, at_price: bool = False
) -> Measured:
    """E_0 on the other template of one method minus that of another, refit by refit.

    The note has what it costs: E_0 bought with F is not better steering.
    """
    return _paired(source, better, worse, lambda of: of["shifted"], "shifted", at_price)


def _paired(
    source: PaperResults,
    one: str,
    other: str,
    of_refit: Callable[[DataFrame], Series],
    split: str,
    at_price: bool,
) -> Measured:
    """The difference of two methods, refit by refit, with what each pays on `split`.

    At the main price the difference decides nothing where the prices paid there differ.
    """
    results = source.results("table2")
    differences: list[float] = []
    cells: list[str] = []
    cost: dict[str, list[float]] = {one: [], other: []}
    for pair in results.pairs():
        found = by_refit(results, *pair, at_price=at_price)
        for name, values in cost.items():
            own = (found["method"] == name) & (found["split"] == split)
            values += list(found[own]["F"].astype(float))
        table = found.pivot_table(
            index=["refit", "method"], columns="split", values="E_0", sort=False
        )
        by_method = of_refit(table).unstack(sort=False).reindex(columns=[one, other]).dropna()
        differences += (by_method[one] - by_method[other]).astype(float).tolist()
        cells += list(dict.fromkeys(found[found["method"].isin([one, other])]["cell"]))
    if not differences:
        raise UserInputError(f"no refit has finished cells of both {one} and {other}")
    mean = {name: float(np.mean(values)) for name, values in cost.items()}
    paid = ", ".join(f"{name} {number(value, 2)}" for name, value in mean.items())
    measured = Measured.of(differences, DRAWS, cells, f"F on {split}: {paid} nats")
    low, high = sorted(-value for value in mean.values())
    if at_price and high >= SAME_PRICE * low and high > 0:
        return replace(measured, doubt=PRICES_DIFFER)
    return measured


def token_scalars(source: PaperResults, role: str) -> Measured:
    """The mean scalar, over layers, at the tokens of the prompt that are the answer (or foil)."""
    results = source.results("fig3")
    means, cells = [], []
    for record in source.finished("fig3", "activ_scalar"):
        prompts = record.prompts["train"]
        if len(prompts) != 1 or record.grid is None:
            continue
        wanted = prompts[0].answer_id if role == "answer" else prompts[0].foil_id
        columns = [
            column
            for column, position in enumerate(record.grid.positions)
            if prompts[0].token_ids[position] == wanted
        ]
        if columns:
            alpha = results.small_tensors(record.id)["scores"][..., columns]
            means.append(float(np.nanmean(alpha)))
            cells.append(record.id)
    if not means:
        raise UserInputError(f"no prompt of a finished cell of activ_scalar contains its {role}")
    return Measured.of(means, "prompts", cells)


def over_seeds(source: PaperResults, statistic: str) -> Measured:
    """A statistic of `reports.figures.vectors` between seeds, over settings; smallest to largest.

    The note has the paper's statistic, which cannot tell arbitrary directions from equal ones.
    """
    results = source.results("fig4")
    found: list[float] = []
    distance: list[float] = []
    own: list[str] = []
    cells: list[str] = []
    for pair in results.pairs():
        for seeds in seeds_of(results, *pair):
            statistics = seeds.statistics()
            found += list(statistics[statistic])
            own.append(f"{seeds.label} {number(float(np.mean(statistics[statistic])), 2)}")
            distance += list(statistics["tau_distance"])
            cells += [record.id for record in seeds.records]
    notes = [", ".join(own)]
    if statistic == "cosine":
        ends = f"[{number(min(distance), 2)}, {number(max(distance), 2)}]"
        notes.append(
            "the paper's statistic, tau of points by cosine distance from the start, is "
            f"{number(np.mean(distance), 2)} {ends}: low even where seeds agree"
        )
    between = f"smallest to largest of {len(found)} pairs of seeds"
    mean = float(np.mean(found))
    return Measured(mean, min(found), max(found), between, tuple(cells), "; ".join(notes))


def mixture_gain(source: PaperResults) -> Measured:
    """The share of the unsteered E_0 that training on the mixture makes up for on the task with the
    least, draw by draw.

    The note has it task by task, and for training on one task and testing on the others.
    """
    results = source.results("fig6")
    found = scores(results)
    found = found[found["tested_on"] != found["trained_on"]]
    found["gain"] = 1 - found["E_0"] / found["E_0_unsteered"]
    mixed = found["trained_on"].str.startswith("mixture")
    if not mixed.any():
        raise UserInputError("no finished cell of fig6 was trained on a mixture of tasks")
    least = found[mixed].groupby("cell", sort=False)["gain"].min()
    by_task = found[mixed].groupby("tested_on", sort=False)["gain"].mean()
    notes = [", ".join(f"{task} {number(gain, 2)}" for task, gain in by_task.items())]
    if not mixed.all():
        elsewhere = number(found[~mixed]["gain"].mean(), 2)
        notes.append(f"trained on one task and tested on the others: {elsewhere}")
    cells = [str(cell) for cell in dict.fromkeys(found["cell"])]
    return Measured.of(least.tolist(), DRAWS, cells, "; ".join(notes), AT_MOST_1)


def last_position(source: PaperResults, *, at_price: bool = False) -> Measured:
    """The share of the unsteered E_0 on test that scaling heads at the last position makes up."""
    rows = [
        (1 - row.E_0 / row.E_0_unsteered, record.id)
        for record in source.finished("fig7", "activ_scalar")
        for row in judged(record, "test", at_price=at_price)
    ]
    gains, cells = zip(*rows, strict=True)
    return Measured.of(gains, DRAWS, cells, possible=AT_MOST_1)
