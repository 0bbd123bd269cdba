"""Does finding go with steering? How methods find what a model does, and how they steer.

Finding is measured in two ways: of models whose circuit is known by the AUROC of scores for it
(`bench.evaluation.finding`), of any model by CPR, how much of the task the nodes of highest score
do (`bench.evaluation.circuit`). Over methods each is correlated (Spearman) with how they steer, a
model, task and draw of prompts at a time.
"""

from collections.abc import Mapping

import numpy as np
from pandas import DataFrame
from scipy.stats import spearmanr

from bench.store.records import CellRecord
from reports.load import Results, of_part, once, plain_name, prompts_seed
from reports.statistics import Interval, t_interval

GROUP = "components"
"""What is ranked: outputs of attention, of MLPs and of heads. The residual stream is apart."""
OUTSIDE = ("activ_patch",)
"""Measures the effects that the labels are made of: it checks the models, and has no rank there."""
FIRST_ORDER = ("grad_scalar", "attr_patch")
SATURATED_FROM = 0.9
"""A family on which both of these have this AUROC tells nobody apart."""
MEASURES = {
    "steering": "E_0 at one price, as a share of the unsteered E_0 that is made up for",
    "localisation": "the same with the k strongest points, averaged over log k",
    "retrained": "the same with scalars trained anew at the k strongest points",
}
FOUND = ("auroc", "CPR")
"""Measures of finding."""
LEAST_METHODS, LEAST_FAMILIES = 4, 0.5
DECIMALS = 3
"""Methods whose AUROC, CPR or share differs by less than this rank as equal: that is tuning."""
MEASURED = (
    *("auroc", "auroc_signed", "average_precision", "precision"),
    *("wrong_decoy", "wrong_cancelling", "wrong_other", "missed_causal", "missed_backup"),
)


@once
def finding(results: Results) -> DataFrame:
    """Return a row a method and group: what was found, and how it steers (see `MEASURES`).

    Draws of a control are averaged: they are one method.
    """
    rows = [
        {
            **_of_cell(record),
            **{"family": found.family, "group": found.group},
            "ranked": not record.control and plain_name(record.method) not in OUTSIDE,
            **{name: getattr(found, name) for name in MEASURED[:4]},
            **{f"wrong_{k}": v for k, v in found.false_positives.items()},
            **{f"missed_{k}": v for k, v in found.misses.items()},
        }
        for record in results.records
        for found in record.finding
    ]
    keys = ["model", "task", "prompts", "family", "method", "control", "group", "ranked"]
    return _averaged(rows, keys, [*MEASURED, *MEASURES])


@once
def faithful(results: Results) -> DataFrame:
    """Return a row a method whose cells store circuits: its CPR, and how it steers.

    All but controls are ranked; draws of a control are averaged.
    """
    rows = [
        {
            **_of_cell(record),
            **{"ranked": not record.control, "CPR": record.circuit.curve("signed").CPR},
        }
        for record in results.records
        if record.circuit is not None
    ]
    return _averaged(
        rows, ["model", "task", "prompts", "method", "control", "ranked"], ["CPR", *MEASURES]
    )


def found_by(results: Results, found: str) -> DataFrame:
    """Return the rows that a measure of finding ranks; the measure has a column of its name."""
    if found == "CPR":
        return faithful(results)
    frame = finding(results)
    return frame[frame["group"] == GROUP]


def _averaged(rows: list[dict[str, object]], keys: list[str], columns: list[str]) -> DataFrame:
    frame = DataFrame(rows, columns=[*keys, *columns])
    frame[columns] = frame[columns].astype(float)
    return frame if frame.empty else frame.groupby(keys, sort=False, as_index=False).mean()


def _of_cell(record: CellRecord) -> dict[str, object]:
    """What a cell is of, and the measures of steering on test that it has."""
    named: dict[str, object] = {
        **{"model": record.model, "task": record.task, "prompts": str(prompts_seed(record))},
        **{"method": record.method, "control": record.control},
    }
    price = record.main_price.price if record.main_price else None
    rows = [row for row in record.metrics if row.split == "test"]
    unsteered = rows[0].E_0_unsteered if rows else 0.0
    if not unsteered:
        return named
    at_price = [row.E_0 for row in rows if price is not None and row.price == price]
    trained = [row.E_0 for row in record.retrained if row.support == "strongest"]
    area = record.localisation.area if record.localisation else None
    return {
        **named,
        **({"steering": 1 - at_price[0] / unsteered} if at_price else {}),
        **({"localisation": area} if area is not None else {}),
        **({"retrained": 1 - float(np.mean(trained)) / unsteered} if trained else {}),
    }


def correlations(results: Results, found: str) -> Mapping[str, tuple[Interval, float]]:
    """Return by measure of steering the rank correlation over methods of `found` with it.

    Its mean and 95 % interval over models, tasks and draws of prompts, and the number of methods.
    Where there are fewer than four methods, or one of the two is the same for all, there is no
    correlation.
    """
    frame = found_by(results, found)
    frame = frame[frame["ranked"].astype(bool)]
    correlated = {}
    for measure in MEASURES:
        values, methods = [], []
        for _, block in frame.groupby(["model", "task", "prompts"], sort=False):
            known = block[[found, measure]].dropna().round(DECIMALS)
            if len(known) >= LEAST_METHODS and (known.nunique() > 1).all():
                values.append(float(spearmanr(known[found], known[measure]).statistic))
                methods.append(len(known))
        if values:
            correlated[measure] = t_interval(values, (-1, 1)), float(np.mean(methods))
    return correlated


def saturated(results: Results) -> tuple[int, int]:
    """Return how many families first-order methods do not find whole, and of how many.

    Those are families on which GradScalar or AttrPatch has an AUROC below `SATURATED_FROM`, a mean
    over models. Families without either of them do not count.
    """
    frame = found_by(results, "auroc")
    frame = frame[frame["method"].map(plain_name).isin(FIRST_ORDER)]
    means = frame.groupby(["family", "method"])["auroc"].mean().groupby("family").min()
    return int((means < SATURATED_FROM).sum()), len(means)


def headline(results: Results) -> str:
    """Return in words what the models can say: `saturated` where first-order methods find all."""
    hard, families = saturated(results)
    if not families:
        return ""
    words = f"{hard} of {families} families have an AUROC of GradScalar or AttrPatch below 0.9"
    return words if hard >= LEAST_FAMILIES * families else f"saturated: only {words}"


@of_part
def table(results: Results) -> DataFrame:
    """Return a row a family, counterfactual, group and method, largest AUROC first.

    All is a mean over models (and draws of prompts), with Student's 95 % interval of the AUROC.
    `wrong_...` counts points among the strongest that are not causal, `missed_...` causal points
    that are not among them, by kind. `ranked` is no for controls and for ActivPatch. Raises
    UserInputError for unknown names.
    """
    frame, keys = finding(results), ["family", "task", "group", "method"]
    rows = []
    for key, block in frame.groupby(keys, sort=False):
        auroc = t_interval(block["auroc"], (0, 1))
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                **{"ranked": bool(block["ranked"].all()), "n_models": block["model"].nunique()},
                **{"auroc": auroc.mean, "low": auroc.low, "high": auroc.high},
                **block[[*MEASURED[1:], *MEASURES]].mean().to_dict(),
            }
        )
    rows.sort(key=lambda row: (row["family"], row["task"], row["group"], -row["auroc"]))
    return DataFrame(rows)


@of_part
def steering(results: Results) -> DataFrame:
    """Return a row a measure of finding and of steering: their rank correlation over methods.

    Finding is the AUROC for circuits that are known, or CPR. `rho` is the mean over models, tasks
    and draws of prompts of Spearman's, with Student's 95 % interval over them. `headline` says
    whether models whose circuit is known can tell methods apart at all. Raises UserInputError for
    unknown names.
    """
    sentences = {"auroc": headline(results)}
    rows = [
        (found, measure, rho.n, methods, rho.mean, rho.low, rho.high, sentences.get(found, ""))
        for found in FOUND
        for measure, (rho, methods) in correlations(results, found).items()
    ]
    names = ("finding", "measure", "n_blocks", "n_methods", "rho", "low", "high", "headline")
    return DataFrame(rows, columns=[*names])
