"""The file of published results: one schema, checked when written and when read, and its means.

A run directory holds tensors of every cell; this file holds what verdicts are made of: of every
cell E_0 and the price paid on every test prompt, at every strength that was measured there.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from bench.store.records import FindingRecord
from bench.store.sanity_record import SanityRecord, SpecificityRecord
from bench.store.schema import PlainDict, StrictRecord, strict_json
from reports.missing import Missing
from tasks.errors import UserInputError

FORMAT: Literal[1] = 1
MOST_BYTES = 2_000_000
"""Of all files that are published together."""
FOR_THE_TABLE = 100_000
SINGLE = 9
"""Digits that say a number of single precision whole: a strength, or a mean."""
DIGITS = (5, 4, 3)
"""Of numbers a prompt: the most that leave the file small enough."""
ABOUT = {
    "what": "results of attribution-bench, written by `python -m bench publish`; check them with "
    "`python -m bench verify FILE`",
    "config": "the matrix; `python -m bench run` computes it",
    "parts": "values that cells have in common: a cell's settings and provenance name places here",
    "prompts": "the prompts of a model and task; ld: logit(answer) - logit(foil) of the unsteered "
    "model; p_answer, p_foil: probabilities there; E_0_unsteered: -mean |ld|",
    "cells": "one model x task x method x seed x draw each; prompts: which of the prompts above",
    "measured": "one strength of a cell each, all numbers on `split`. of: `price` (chosen on train "
    "to cost `nats` there), `star` (beta*, chosen on train for Psi), `one` (beta = 1), "
    "`price_curve` (as price), `localisation` (the k points of largest |score| alone, at `nats`), "
    "`retrained` (scalars trained anew at k points, at `nats`; support says which). What is left "
    "out is the default: reached true, extrapolated false, draw 0",
    "E_0": "effectiveness (Eq. 6, margin 0) at +beta and -beta, in logits: 0 where every prompt "
    "flips both ways; the mean of e_0, a number a prompt",
    "paid": "-F (Eq. 7): divergence from the unsteered model, both signs, in nats; the mean of "
    "price, a number a prompt",
    "digits": "significant digits of numbers a prompt",
    "sanity": "of a cell: how far its map is the same where weights or answers are other ones",
    "specificity": "of a cell: what it does to prompts of other tasks and to a neutral text",
    "finding": "of a cell on a model whose circuit is known: how scores rank the circuit's points",
    "missing": "cells of the matrix that have no result, and why",
}


class Measured(StrictRecord):
    """E_0 and the price paid on every prompt, at one strength; `ABOUT` says what fields mean."""

    of: Literal["price", "star", "one", "price_curve", "localisation", "retrained"]
    nats: float | None = None
    k: int | None = None
    support: str = ""
    draw: int = 0
    beta: float
    reached: bool = True
    extrapolated: bool = False
    E_0: float
    paid: float
    e_0: list[float]
    price: list[float]


class PublishedCell(StrictRecord):
    """One finished cell. `settings` and `provenance` are places in `parts`."""

    id: str
    model: str
    task: str
    method: str
    trained: bool
    control: bool
    signed: bool
    draw: int
    seed: int
    settings: dict[str, int]
    provenance: dict[str, int]
    prompts: int
    measured: list[Measured]
    sanity: SanityRecord | None = None
    specificity: SpecificityRecord | None = None
    finding: list[FindingRecord] = Field(default_factory=list)


class PublishedPrompt(StrictRecord):
    """One prompt as the model saw it."""

    clean: str
    corrupted: str
    answer: str
    foil: str
    entity: str
    token_ids: list[int]
    answer_id: int
    foil_id: int


class PromptSet(StrictRecord):
    """The prompts of a split, and what the unsteered model does on each."""

    split: str
    prompts: list[PublishedPrompt]
    E_0_unsteered: float
    ld: list[float]
    p_answer: list[float]
    p_foil: list[float]


class Published(StrictRecord):
    """All that is published of a run."""

    format: Literal[1] = FORMAT
    about: dict[str, str] = ABOUT
    suite_version: str
    digits: int = 17
    config: PlainDict
    parts: list[Any]
    prompts: list[PromptSet]
    cells: list[PublishedCell]
    missing: list[Missing]


def text_of(published: Published, beside: int = 0) -> str:
    """Return the file's text: JSON, a line a cell, with as many digits as leave it small enough.

    `beside` is how many bytes another file takes. Raises UserInputError where there is no room.
    """
    room = MOST_BYTES - FOR_THE_TABLE - beside
    for digits in DIGITS:
        text = _text(published, digits)
        if len(text.encode()) <= room:
            return text
    raise UserInputError(
        f"The results take {len(text.encode()):,} bytes with {digits} digits a number; a file of "
        f"published results has {room:,} at most. Publish a run of fewer tasks, methods, draws or "
        "test prompts."
    )


def _text(published: Published, digits: int) -> str:
    everything = json.loads(published.model_dump_json()) | {"digits": digits}
    for prompts in everything["prompts"]:
        for name in ("ld", "p_answer", "p_foil"):
            prompts[name] = _rounded(prompts[name], digits)
    for cell in everything["cells"]:
        cell["measured"] = [_short(row, digits) for row in cell["measured"]]
    lines = []
    for key, value in everything.items():
        if key in ("cells", "prompts", "parts", "missing"):
            items = ",\n".join(map(_compact, value))
            lines.append(f'"{key}": [\n{items}\n]')
        else:
            lines.append(f'"{key}": {_compact(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _short(row: dict[str, Any], digits: int) -> dict[str, Any]:
    """A row without what is the default."""
    fields = Measured.model_fields
    row |= {name: _rounded(row[name], digits) for name in ("e_0", "price")}
    row |= {name: _rounded([row[name]], SINGLE)[0] for name in ("beta", "E_0", "paid")}
    return {key: value for key, value in row.items() if value != fields[key].default}


def _rounded(values: list[float | str], digits: int) -> list[float | str]:
    """Whole numbers where they are; what is not finite is a string already."""
    return [value if isinstance(value, str) else float(f"{value:.{digits}g}") for value in values]


def _compact(value: object) -> str:
    return json.dumps(strict_json(value), separators=(",", ":"), ensure_ascii=False)


def read(file: Path | str) -> Published:
    """Read a file of published results. Raises UserInputError where there is none, as `parse`."""
    file = Path(file)
    try:
        with file.open("rb") as stream:
            return parse(stream.read(MOST_BYTES + 1), file)
    except OSError as error:
        raise UserInputError(f"{file} cannot be read: {error.strerror}.") from None


def parse(content: bytes, file: Path) -> Published:
    """Return what a file holds.

    Raises UserInputError where that is not published results, naming the field that is wrong.
    """
    if len(content) > MOST_BYTES:
        raise UserInputError(f"{file} is larger than any that `publish` writes (2 MB).")
    try:
        return Published.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserInputError(
            f"{file} is no file of published results, format {FORMAT}: {where}: {first['msg']}"
        ) from None


def problems(published: Published) -> list[str]:
    """Return what is wrong in a file whose fields are right, a sentence each; nothing if all is.

    Every mean is computed again from the numbers of the prompts, and every place in `parts` and
    `prompts` is looked up.
    """
    found = []
    for place, one in enumerate(published.prompts):
        where = f"prompts {place}"
        for name in ("ld", "p_answer", "p_foil"):
            if len(getattr(one, name)) != len(one.prompts):
                found.append(f"{where}: {name} has not one number a prompt")
        missed = [-abs(ld) for ld in one.ld]
        found += _mean(published.digits, f"{where}: E_0_unsteered", one.E_0_unsteered, missed)
    seen = set()
    for cell in published.cells:
        found += _of_cell(published, cell)
        if cell.id in seen:
            found.append(f"{cell.id} is there twice")
        seen.add(cell.id)
    return found


def _of_cell(published: Published, cell: PublishedCell) -> Iterator[str]:
    places = {*cell.settings.values(), *cell.provenance.values()}
    if not places <= set(range(len(published.parts))):
        yield f"{cell.id}: a place in parts that there is not"
    if not 0 <= cell.prompts < len(published.prompts):
        yield f"{cell.id}: prompts {cell.prompts} are not there"
        return
    size = len(published.prompts[cell.prompts].prompts)
    for row in cell.measured:
        points = "" if row.k is None else f", k = {row.k}"
        at = "" if row.nats is None else f", {row.nats:.3g} nats"
        where = f"{cell.id}, {row.of}{points}{at}{row.support and f', {row.support}'}"
        if (len(row.e_0), len(row.price)) != (size, size):
            yield f"{where}: not one number a prompt"
            continue
        yield from _mean(published.digits, f"{where}: E_0", row.E_0, row.e_0)
        yield from _mean(published.digits, f"{where}: paid", row.paid, row.price)


def _mean(digits: int, what: str, stated: float, values: Sequence[float]) -> Iterator[str]:
    mean = float(np.mean(values)) if len(values) else float("nan")
    size = float(np.max(np.abs(values), initial=0.01))
    same = stated == mean or abs(stated - mean) <= 10 ** (1 - digits) * size
    if not same and not (np.isnan(stated) and np.isnan(mean)):
        yield f"{what} is {stated:.6g}, the mean over prompts {mean:.6g}"
