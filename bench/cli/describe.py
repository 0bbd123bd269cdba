"""A record for reading in a terminal: what `show` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench.harmless import harmless
from bench.store.plain import strict_json
from bench.store.records import CellRecord


def describe(record: CellRecord) -> Iterator[str]:
    """The lines of a record: identity, settings, provenance, results or the reason why not."""
    yield f"{record.id}: {record.status}"
    for name in ("model", "task", "method", "draw", "seed"):
        yield f"  {name}: {harmless(str(getattr(record, name)))}"
    yield "settings:"
    yield from _lines(record.settings)
    yield "provenance:"
    yield from _lines(record.provenance)
    if record.beta is not None and record.beta.star is not None:
        yield f"beta*: {record.beta.star:g}"
    if record.metrics:
        yield "metrics:"
        for row in record.metrics:
            yield (
                f"  {harmless(row.split)}, beta = {row.beta:g}: E_0 {row.E_0:.4f} (unsteered "
                f"{row.E_0_unsteered:.4f}), F {row.F:.4f}, {row.n_prompts} prompts"
            )
    for note in record.notes:
        yield f"note: {harmless(note)}"
    if record.error is not None:
        yield f"error: {harmless(f'{record.error.kind}: {record.error.message}')}"
        yield "log:"
        for line in record.error.log.splitlines():
            yield f"  {harmless(line)}"


def _lines(values: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"  {harmless(key)}: {harmless(json.dumps(strict_json(value), ensure_ascii=False))}"
