"""From a run's results to what is published of them."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.store.json_values import strict_json
from bench.store.records import CellRecord
from reports.arrays import Numbered
from reports.curves import values_of
from reports.load import Results
from reports.outcomes import main_split, terms
from reports.published.record import (
    Measured,
    PromptSet,
    Published,
    PublishedCell,
    PublishedPrompt,
)
from tasks.errors import UserInputError

PROVENANCE = (
    *("versions", "git", "system", "device", "device_name", "dtype", "threads"),
    *("rows_per_forward", "model_digest", "model_content", "seconds", "passes"),
)
"""What of a cell's provenance is published: where numbers come from, and what they cost."""
Values = NDArray[np.float64]


def published_of(results: Results) -> Published:
    """Return what is published of a run: its finished cells on the main split, and what is missing.

    Raises UserInputError where no cell is finished.
    """
    parts = Numbered()
    prompts: list[PromptSet] = []
    cells: list[PublishedCell] = []
    known: dict[str, int] = {}
    for model, task in results.pairs():
        records = [one for one in results.of(model, task) if one.status == "done"]
        split = main_split(records)
        for record in records:
            measured = _measured(results, record, split)
            key = json.dumps([model, task, *(one.token_ids for one in record.prompts[split])])
            if key not in known:
                known[key] = len(prompts)
                prompts.append(_prompt_set(results, record, split))
            cells.append(_cell(record, parts, known[key], measured))
    if not cells:
        raise UserInputError(f"{results.store.directory} has no finished cell to publish.")
    missing = [one for one in results.missing if one.counts]
    return Published(
        suite_version=results.store.run.get("suite_version", ""),
        config={key: value for key, value in results.store.config.items() if key != "output"},
        parts=[json.loads(text) for text in parts.known],
        prompts=prompts,
        cells=cells,
        missing=missing,
    )


def _cell(
    record: CellRecord, parts: Numbered, prompts: int, measured: list[Measured]
) -> PublishedCell:
    same = ("id", "model", "task", "method", "trained", "control", "signed", "draw", "seed")
    origin = {key: record.provenance[key] for key in PROVENANCE if key in record.provenance}
    return PublishedCell(
        **{name: getattr(record, name) for name in same},
        settings=_places(record.settings, parts),
        provenance=_places(origin, parts),
        prompts=prompts,
        measured=measured,
        sanity=record.sanity,
        specificity=record.specificity,
        finding=[one.model_copy(update={"points": []}) for one in record.finding],
    )


def _places(values: dict[str, Any], parts: Numbered) -> dict[str, int]:
    """Return by name where each value stands, as JSON, among the parts that many cells share."""
    texts = {name: json.dumps(strict_json(one), sort_keys=True) for name, one in values.items()}
    return {name: parts.index(text) for name, text in texts.items()}


def _prompt_set(results: Results, record: CellRecord, split: str) -> PromptSet:
    tensors = results.small_tensors(record.id)
    beta = tensors[f"split.{split}.beta"]
    unsteered = int(np.flatnonzero(beta == 0)[0])
    names = ("ld", "p_answer", "p_foil")
    names_of = PublishedPrompt.model_fields
    return PromptSet(
        split=split,
        prompts=[
            PublishedPrompt(**{name: getattr(one, name) for name in names_of})
            for one in record.prompts[split]
        ],
        E_0_unsteered=next(row.E_0_unsteered for row in record.metrics if row.split == split),
        **{name: tensors[f"split.{split}.{name}"][:, unsteered].tolist() for name in names},
    )


def _measured(results: Results, record: CellRecord, split: str) -> list[Measured]:
    """Every strength of a cell that E_0 and the price are stored for, prompt by prompt."""
    tensors = results.small_tensors(record.id)
    beta, ld, kl = (tensors[f"split.{split}.{name}"] for name in ("beta", "ld", "kl"))
    prices = {one.price: one for one in record.prices}
    rows = []
    for row in record.metrics:
        if row.split != split:
            continue
        signs = [int(np.abs(beta - sign * row.beta).argmin()) for sign in (1, -1)]
        fields = {"of": row.beta_kind, "nats": row.price, "beta": row.beta}
        if row.price in prices:
            chosen = prices[row.price]
            fields |= {"reached": chosen.reached, "extrapolated": chosen.extrapolated}
        values = terms(ld[:, signs], kl[:, signs])
        rows.append(_row(values, E_0=row.E_0, paid=-row.F, **fields))
    return (
        rows
        + _price_curve(results, record)
        + _localisation(results, record)
        + _retrained(results, record)
    )


def _price_curve(results: Results, record: CellRecord) -> list[Measured]:
    values, stored = values_of(results, record, "price_curve"), record.price_curve
    if values is None or stored is None:
        return []
    names = ("nats", "beta", "E_0", "paid", "reached")
    columns = (stored.price, stored.beta, stored.E_0, stored.paid, stored.reached)
    return [
        _row(values[:, :, place], of="price_curve", **dict(zip(names, row, strict=True)))
        for place, row in enumerate(zip(*columns, strict=True))
    ]


def _localisation(results: Results, record: CellRecord) -> list[Measured]:
    values, stored = values_of(results, record, "localisation"), record.localisation
    if values is None or stored is None:
        return []
    names, same = ("k", "beta", "E_0", "paid"), {"of": "localisation", "nats": stored.price}
    columns = (stored.k, stored.beta, stored.E_0, stored.paid)
    return [
        _row(values[:, :, place], **same, **dict(zip(names, row, strict=True)))
        for place, row in enumerate(zip(*columns, strict=True))
    ]


def _retrained(results: Results, record: CellRecord) -> list[Measured]:
    if not record.retrained:
        return []
    tensors = results.small_tensors(record.id)
    values = terms(tensors["retrained.ld"], tensors["retrained.kl"])
    names = ("k", "support", "draw", "beta", "E_0", "paid")
    return [
        _row(
            values[:, :, place],
            **{"of": "retrained", "nats": one.price},
            **{name: getattr(one, name) for name in names},
        )
        for place, one in enumerate(record.retrained)
    ]


def _row(values: Values, **fields: Any) -> Measured:
    """A row of values (2, prompt): the terms of E_0 and F."""
    return Measured(e_0=values[0].tolist(), price=(-values[1]).tolist(), **fields)
