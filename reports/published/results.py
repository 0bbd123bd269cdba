"""Results that tables and figures take, from a file of published results instead of a run."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from bench.agreement.table import COLUMNS
from bench.store.cells import Tensors
from bench.store.records import MAIN_PRICE, CellRecord, MetricRow
from bench.store.results import RunStore
from reports.load import Results, labels_of
from reports.published.record import Measured, PromptSet, Published, PublishedCell, read
from reports.tables.curves import averaged_over_log

AT_ALL_POINTS = ("price", "star", "one")
"""What all points act at, as it is judged: the price where there is one, else beta*."""
UNKNOWN = float("nan")


def load_published(file: Path | str) -> Results:
    """Return the results that a file of published results holds. Errors as `read`."""
    return results_of(read(file), file)


def results_of(published: Published, file: Path | str) -> Results:
    """Return the results that were published; `file` is named in messages.

    What was not published is NaN: flips, mass, numbers of train and of other splits.
    """
    run = {"config": published.config, "suite_version": published.suite_version}
    store = RunStore(Path(file), {**run, "cells": None, "plan": []})
    records = tuple(record_of(published, cell) for cell in published.cells)
    small = {cell.id: _tensors(cell, published.prompts[cell.prompts]) for cell in published.cells}
    return Results(
        store,
        records,
        tuple(published.missing),
        DataFrame(columns=[*COLUMNS]),
        tuple(sorted({*labels_of(records).values()})),
        _small=small,
        _names={cell: frozenset(tensors) for cell, tensors in small.items()},
    )


def record_of(published: Published, cell: PublishedCell) -> CellRecord:
    """Return the record of a cell, as far as it was published."""
    prompts = published.prompts[cell.prompts]
    star = next((row.beta for row in cell.measured if row.of == "star"), None)
    parts = published.parts
    fields: dict[str, Any] = {
        **cell.model_dump(exclude={"settings", "provenance", "prompts", "measured"}),
        "status": "done",
        "settings": {name: parts[place] for name, place in cell.settings.items()},
        "provenance": {name: parts[place] for name, place in cell.provenance.items()},
        "prompts": {
            prompts.split: [
                one.model_dump() | {"tokens": [], "corrupted_ids": []} for one in prompts.prompts
            ]
        },
        "beta": {"star": star},
        "metrics": [_metrics(row, prompts) for row in cell.measured if row.of in AT_ALL_POINTS],
        "prices": [
            {
                **{"price": row.nats, "beta": row.beta, "paid": UNKNOWN, "E_0": UNKNOWN},
                **{"reached": row.reached, "extrapolated": row.extrapolated},
            }
            for row in cell.measured
            if row.of == "price"
        ],
        "retrained": [
            {
                **{"k": row.k, "support": row.support, "draw": row.draw, "price": row.nats},
                **{"beta": row.beta, "E_0": row.E_0, "paid": row.paid},
                **{"E_0_train": UNKNOWN, "paid_train": UNKNOWN},
            }
            for row in cell.measured
            if row.of == "retrained"
        ],
    }
    return CellRecord.model_validate(fields | _curves(cell, prompts))


def _metrics(row: Measured, prompts: PromptSet) -> dict[str, Any]:
    nothing = {
        name: UNKNOWN for name, field in MetricRow.model_fields.items() if field.annotation is float
    }
    return nothing | {
        **{"split": prompts.split, "n_prompts": len(prompts.prompts)},
        **{"beta_kind": row.of, "price": row.nats, "beta": row.beta},
        **{"E_0": row.E_0, "F": -row.paid, "E_0_unsteered": prompts.E_0_unsteered},
    }


def _curves(cell: PublishedCell, prompts: PromptSet) -> dict[str, Any]:
    """The records of the price curve and of localisation, where there are any."""
    found: dict[str, Any] = {}
    for kind, x, field in (("price_curve", "price", "nats"), ("localisation", "k", "k")):
        if rows := [row for row in cell.measured if row.of == kind]:
            names = {x: field, "beta": "beta", "E_0": "E_0", "paid": "paid"}
            columns = {to: [getattr(row, name) for row in rows] for to, name in names.items()}
            share = 1 - np.array(columns["E_0"]) / (prompts.E_0_unsteered or UNKNOWN)
            area = float(averaged_over_log(columns[x], share))
            found[kind] = {"split": prompts.split, "area": area, **columns}
            if kind == "price_curve":
                found[kind]["reached"] = [row.reached for row in rows]
            else:
                found[kind] |= {"price": rows[0].nats, "E_0_train": [], "paid_train": []}
    return found


def _tensors(cell: PublishedCell, prompts: PromptSet) -> Tensors:
    """Logit differences and divergences with the published terms of E_0 and F.

    All of a term stands at +beta: min(0, ld) is its E_0, and nothing is missing at -beta. What is
    judged comes first, since another strength may be its negative.
    """
    at = [row for row in cell.measured if row.of in AT_ALL_POINTS]
    at.sort(key=lambda row: (row.nats != MAIN_PRICE, AT_ALL_POINTS.index(row.of)))
    ld, kl = (values.reshape(len(prompts.prompts), -1) for values in _both_signs(at))
    unsteered = np.array(prompts.ld)[:, None]
    columns = {"ld": np.hstack([unsteered, ld]), "kl": np.hstack([0 * unsteered, kl])}
    for name in ("p_answer", "p_foil"):
        columns[name] = np.full(columns["ld"].shape, UNKNOWN)
        columns[name][:, 0] = getattr(prompts, name)
    columns["beta"] = np.array([0.0, *(sign * row.beta for row in at for sign in (1, -1))])
    tensors = {f"split.{prompts.split}.{name}": values for name, values in columns.items()}
    for kind in ("price_curve", "localisation", "retrained"):
        if rows := [row for row in cell.measured if row.of == kind]:
            tensors |= dict(zip((f"{kind}.ld", f"{kind}.kl"), _both_signs(rows), strict=True))
    return tensors


def _both_signs(rows: list[Measured]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(prompt, row, sign) twice: logit differences and divergences."""
    e_0, price = np.array([row.e_0 for row in rows]).T, np.array([row.price for row in rows]).T
    nothing = np.zeros(e_0.shape)
    return np.stack([e_0, nothing], -1), np.stack([price, nothing], -1)
