"""Does finding go with steering? Methods compared on models whose circuit is known.

Of every method, model and task: how its scores find the circuit (`bench.evaluation.finding`), and
how they steer. Over methods the two are correlated (Spearman), a model and task at a time.
"""

import numpy as np
from pandas import DataFrame
from scipy.stats import spearmanr

from bench.store.records import CellRecord
from reports.load import Results, once, plain_name
from reports.statistics import Interval, t_interval

GROUP = "components"
"""What is ranked: outputs of attention, of MLPs and of heads. The residual stream is apart."""
OUTSIDE = ("activ_patch",)
"""Measures the effects that the labels are made of: it checks the models, and is not ranked."""
FIRST_ORDER = ("grad_scalar", "attr_patch")
SATURATED_FROM = 0.9
"""A family on which both of these have this AUROC tells nobody apart."""
MEASURES = {
    "steering": "E_0 at one price, as a share of the unsteered E_0 that is made up for",
    "localisation": "the same with the k strongest points, averaged over log k",
    "retrained": "the same with scalars trained anew at the k strongest points",
}
LEAST_METHODS, LEAST_FAMILIES = 4, 0.5
DECIMALS = 3
"""Methods whose AUROC or share differs by less than this are ranked as equal: that is tuning."""
MEASURED = (
    *("auroc", "auroc_signed", "average_precision", "precision"),
    *("wrong_decoy", "wrong_cancelling", "wrong_other", "missed_causal", "missed_backup"),
)


@once
def finding(results: Results) -> DataFrame:
    """Return a row a cell and group: what was found, and how the cell steers (see `MEASURES`).

    Draws of a control are averaged: they are one method.
    """
    rows = []
    for record in results.records:
        for found in record.finding:
            rows.append(
                {
                    **{"model": record.model, "task": record.task, "family": found.family},
                    **{"method": record.method, "control": record.control, "group": found.group},
                    "ranked": not record.control and plain_name(record.method) not in OUTSIDE,
                    **{name: getattr(found, name) for name in MEASURED[:4]},
                    **{f"wrong_{k}": v for k, v in found.false_positives.items()},
                    **{f"missed_{k}": v for k, v in found.misses.items()},
                    **_steers(record),
                }
            )
    keys = ["model", "task", "family", "method", "control", "group", "ranked"]
    columns = [*keys, *MEASURED, *MEASURES]
    frame = DataFrame(rows, columns=columns)
    frame[[*MEASURED, *MEASURES]] = frame[[*MEASURED, *MEASURES]].astype(float)
    return frame.groupby(keys, sort=False, as_index=False).mean()


def _steers(record: CellRecord) -> dict[str, float]:
    """The measures of steering on test that a cell has."""
    price = record.main_price.price if record.main_price else None
    rows = [row for row in record.metrics if row.split == "test"]
    unsteered = next((row.E_0_unsteered for row in rows), 0.0)
    if not unsteered:
        return {}
    at_price = [row.E_0 for row in rows if price is not None and row.price == price]
    trained = [row.E_0 for row in record.retrained if row.support == "strongest"]
    area = record.localisation.area if record.localisation else None
    return {
        **({"steering": 1 - at_price[0] / unsteered} if at_price else {}),
        **({"localisation": area} if area is not None else {}),
        **({"retrained": 1 - float(np.mean(trained)) / unsteered} if trained else {}),
    }


def correlations(results: Results) -> dict[str, tuple[Interval, int, float]]:
    """Return by measure the rank correlation over methods of AUROC with it.

    Its mean and 95 % interval over models and tasks, the number of those and of the methods. A
    model and task with fewer than four methods, or where one of the two is the same for all, has no
    correlation.
    """
    frame = finding(results)
    frame = frame[frame["ranked"] & (frame["group"] == GROUP)]
    found = {}
    for measure in MEASURES:
        values, methods = [], []
        for _, block in frame.groupby(["model", "task"], sort=False):
            known = block[["auroc", measure]].dropna().round(DECIMALS)
            if len(known) >= LEAST_METHODS and (known.nunique() > 1).all():
                values.append(float(spearmanr(known["auroc"], known[measure]).statistic))
                methods.append(len(known))
        if values:
            found[measure] = t_interval(values, (-1, 1)), len(values), float(np.mean(methods))
    return found


def saturated(results: Results) -> tuple[int, int]:
    """Return how many families first-order methods do not find whole, and of how many.

    Those are families on which GradScalar or AttrPatch has an AUROC below `SATURATED_FROM`, a mean
    over models. Families without either of them do not count.
    """
    frame = finding(results)
    frame = frame[frame["method"].map(plain_name).isin(FIRST_ORDER) & (frame["group"] == GROUP)]
    means = frame.groupby(["family", "method"])["auroc"].mean().groupby("family").min()
    return int((means < SATURATED_FROM).sum()), len(means)


def headline(results: Results) -> str:
    """Return in words what the models can say: `saturated` where first-order methods find all."""
    hard, families = saturated(results)
    if not families:
        return ""
    words = f"{hard} of {families} families have an AUROC of GradScalar or AttrPatch below 0.9"
    return words if hard >= LEAST_FAMILIES * families else f"saturated: only {words}"
