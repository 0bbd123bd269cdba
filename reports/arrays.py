"""What a method's cells give the page to draw: score maps, sweeps, and what every prompt stores.

Arrays are base64 of little-endian numbers: maps as fp16 shares of their largest |score| (three
digits are all that a colour or a hover needs), everything whose digits are printed as fp32. The
page decodes a method's arrays when it is shown.
"""

import base64
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.store.cells import Tensors
from bench.store.records import CellRecord
from reports.load import Results
from reports.maps import ScoreMap, score_maps
from reports.text import token
from tasks.text import visible

SHOWN_TOKENS = 5
SHOWN_PROMPTS = 200
"""Prompts of a split that the page offers; a list of more cannot be chosen from."""
SWEPT = ("logit_answer", "logit_foil", "p_answer", "p_foil", "kl")
STORED = ("ld", "kl", "p_answer", "p_foil")


class Numbered:
    """Values by number, each once."""

    def __init__(self) -> None:
        self._index: dict[Hashable, int] = {}

    @property
    def known(self) -> list[Any]:
        return list(self._index)

    def index(self, value: Hashable) -> int:
        return self._index.setdefault(value, len(self._index))


def entry_of(
    results: Results,
    label: str,
    group: Sequence[CellRecord],
    splits: Sequence[str],
    strings: Numbered,
) -> dict[str, Any]:
    """Return what the page has of one method, whose cells are `group`.

    Scores are averaged over its cells; sweeps and prompts are those of the first finished one.
    """
    first = group[0]
    entry: dict[str, Any] = {"label": visible(label), "control": first.control}
    cells = [
        (record, results.small_tensors(record.id)) for record in group if record.status == "done"
    ]
    if not cells:
        return entry | {"missing": "no result: see the cells without a result"}
    record, tensors = cells[0]
    entry |= {"star": record.beta.star if record.beta else None, "cell": _unit(record, len(cells))}
    entry |= _scores(results, [(one, stored) for one, stored in cells if "scores" in stored])
    entry["sweeps"] = {split: _sweep(record, tensors, split, strings) for split in splits}
    entry["stored"] = {split: _stored(tensors, split) for split in splits}
    return entry


def _unit(record: CellRecord, count: int) -> str:
    """Which of a method's cells is shown where only one can be."""
    unit = f"draw {record.draw}" if record.control else f"seed {record.seed}"
    return f"{unit}, the first of {count}" if count > 1 else unit


def _scores(results: Results, cells: Sequence[tuple[CellRecord, Tensors]]) -> dict[str, Any]:
    """Return the maps of the mean over cells, and what it is a mean of."""
    if not cells or cells[0][0].grid is None:
        return {"no_maps": "no scores are stored"}
    record = cells[0][0]
    scores = [stored["scores"] for _, stored in cells]
    if len({one.shape for one in scores}) > 1:
        return {"no_maps": "its cells have scores of different points"}
    mean = np.mean(scores, axis=0)
    finite = np.abs(mean[np.isfinite(mean)])
    scale = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    parts = ["one for all prompts"]
    if results.has_prompt_scores(record.id):
        n_prompts = len(record.prompts.get("train", ()))
        parts = [f"averaged over {n_prompts} train prompts" if n_prompts != 1 else "of its prompt"]
    if len(cells) > 1:
        parts.append(f"averaged over {len(cells)} {'draws' if record.control else 'seeds'}")
    return {"maps": [_map(one, scale) for one in _maps(record, mean)], "maps_of": ", ".join(parts)}


def _maps(record: CellRecord, scores: NDArray[Any]) -> list[ScoreMap]:
    assert record.grid is not None
    prompts = record.prompts.get("train") or next(iter(record.prompts.values()), [])
    tokens = prompts[0].tokens if prompts else []
    names = [
        token(tokens[place]) if 0 <= place < len(tokens) else str(place)
        for place in record.grid.positions
    ]
    return score_maps(record.grid, scores, names)


def _map(one: ScoreMap, scale: float) -> dict[str, Any]:
    values = np.where(np.isfinite(one.values), one.values / scale, np.nan)
    return {
        **{"title": visible(one.title), "layers": len(one.values), "columns": one.columns},
        **{"scale": scale, "values": _encode(values, "<f2")},
    }


def _sweep(
    record: CellRecord, tensors: Tensors, split: str, strings: Numbered
) -> dict[str, Any] | None:
    """Of the displayed prompts: (prompt, beta) each, and the likeliest tokens."""
    beta, prompts = (tensors.get(f"sweep.{split}.{name}") for name in ("beta", "prompt"))
    if beta is None or prompts is None or f"sweep.{split}.{SWEPT[0]}" not in tensors:
        return None
    found: dict[str, Any] = {"beta": _encode(beta, "<f4"), "prompts": prompts.tolist()}
    found |= {name: _encode(tensors[f"sweep.{split}.{name}"], "<f4") for name in SWEPT}
    ids, p = (tensors.get(f"sweep.{split}.top_{name}") for name in ("ids", "p"))
    if ids is not None and p is not None and ids.ndim == 3:
        ids = ids[..., :SHOWN_TOKENS]
        names = {int(one): _token_name(record, int(one)) for one in np.unique(ids)}
        numbers = {one: strings.index(name) for one, name in names.items()}
        found["top"] = _encode(np.vectorize(numbers.__getitem__)(ids), "<u4")
        found["top_p"] = _encode(p[..., :SHOWN_TOKENS], "<f4")
        found["n_top"] = int(ids.shape[-1])
    return found


def _token_name(record: CellRecord, token_id: int) -> str:
    return token(record.top_tokens.get(str(token_id), f"#{token_id}"), 24)


def _stored(tensors: Tensors, split: str) -> dict[str, str] | None:
    """Of the prompts shown: (prompt, beta) each, at the few strengths of the evaluation."""
    beta = tensors.get(f"split.{split}.beta")
    if beta is None:
        return None
    found = {name: tensors.get(f"split.{split}.{name}") for name in STORED}
    known = {name: array[:SHOWN_PROMPTS] for name, array in found.items() if array is not None}
    return {name: _encode(array, "<f4") for name, array in {"beta": beta, **known}.items()}


def _encode(array: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind)).tobytes()).decode()
