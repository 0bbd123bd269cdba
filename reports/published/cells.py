"""From a run's results to what is published of them."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.store.records import CellRecord
from bench.store.schema import strict_json
from reports.load import Results, unsteered_of
from reports.outcomes import main_split, per_prompt, stored_terms, unsteered_values
from reports.published.record import (
    Measured,
    PromptSet,
    Published,
    PublishedCell,
    PublishedPrompt,
)
from reports.tables.curves import Kind, values_of
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
    parts = defaultdict[str, int](count().__next__)  # values by number, each once
    prompts: list[PromptSet] = []
    cells: list[PublishedCell] = []
    known: dict[str, int] = {}
    for model, task in results.pairs():
        records = [one for one in results.of(model, task) if one.status == "done"]
        split = main_split(records)
        for record in records:
            key = json.dumps([model, task, *(one.token_ids for one in record.prompts[split])])
            if key not in known:
                known[key] = len(prompts)
                prompts.append(_prompt_set(results, record, split))
            measured = list(_measured(results, record, split))
            cells.append(_cell(record, parts, known[key], measured))
    if not cells:
        raise UserInputError(f"{results.store.directory} has no finished cell to publish.")
    return Published(
        suite_version=results.store.run.get("suite_version", ""),
        config={key: value for key, value in results.store.config.items() if key != "output"},
        parts=[json.loads(text) for text in parts],
        prompts=prompts,
        cells=cells,
        missing=[one for one in results.missing if one.counts],
    )


def _cell(
    record: CellRecord, parts: dict[str, int], prompts: int, measured: list[Measured]
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


def _places(values: dict[str, Any], parts: dict[str, int]) -> dict[str, int]:
    """Return by name where each value stands, as JSON, among the parts that many cells share."""
    return {
        name: parts[json.dumps(strict_json(one), sort_keys=True)] for name, one in values.items()
    }


def _prompt_set(results: Results, record: CellRecord, split: str) -> PromptSet:
    names = PublishedPrompt.model_fields
    unsteered = unsteered_values(results, record, split) or {}
    return PromptSet(
        split=split,
        prompts=[
            PublishedPrompt(**{name: getattr(one, name) for name in names})
            for one in record.prompts[split]
        ],
        E_0_unsteered=unsteered_of(record, split),
        **{name: values.tolist() for name, values in unsteered.items()},
    )


def _measured(results: Results, record: CellRecord, split: str) -> Iterator[Measured]:
    """Every strength of a cell that E_0 and the price are stored for, prompt by prompt."""
    for row in record.metrics:
        values = per_prompt(results, record, split, row.beta) if row.split == split else None
        if values is not None:
            fields: dict[str, Any] = {"of": row.beta_kind, "nats": row.price, "beta": row.beta}
            for chosen in record.prices:
                if chosen.price == row.price:
                    fields |= {"reached": chosen.reached, "extrapolated": chosen.extrapolated}
            yield _row(values, E_0=row.E_0, paid=-row.F, **fields)
    yield from _of_curve(results, record, "price_curve", ("beta", "E_0", "paid", "reached"))
    yield from _of_curve(results, record, "localisation", ("k", "beta", "E_0", "paid"))
    retrained = stored_terms(results, record, "retrained", split) if record.retrained else None
    for place, one in enumerate(record.retrained):
        if retrained is not None:
            names = ("k", "support", "draw", "beta", "E_0", "paid")
            fields = {name: getattr(one, name) for name in names}
            yield _row(retrained[:, :, place], of="retrained", nats=one.price, **fields)


def _of_curve(
    results: Results, record: CellRecord, kind: Kind, names: Sequence[str]
) -> Iterator[Measured]:
    values, stored = values_of(results, record, kind), getattr(record, kind)
    if values is not None:
        for place, nats in enumerate(np.broadcast_to(stored.price, len(stored.beta)).tolist()):
            fields = {name: getattr(stored, name)[place] for name in names}
            yield _row(values[:, :, place], of=kind, nats=nats, **fields)


def _row(values: Values, **fields: Any) -> Measured:
    """A row of values (2, prompt): the terms of E_0 and F."""
    return Measured(e_0=values[0].tolist(), price=(-values[1]).tolist(), **fields)
