"""What the page can show beyond its tables: score maps, sweeps and prompts, one block a pair.

Arrays are base64 of little-endian numbers: maps as fp16 shares of their largest |score| (three
digits are all that a colour or a hover needs), everything whose digits are printed as fp32. The
page decodes a method's arrays when it is shown.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.records import CellRecord, PromptRecord
from bench.results import CorruptCellError, Tensors
from reports.labels import group_cells
from reports.load import Results, splits_of
from reports.maps import ScoreMap, score_maps
from reports.text import token, visible

BUDGET = 12_000_000
"""Bytes of all blocks together, so that the page stays under 20 MB; controls give way first."""
SHOWN_TOKENS = 5
SWEPT = ("logit_answer", "logit_foil", "p_answer", "p_foil", "kl")
STORED = ("ld", "kl", "p_answer", "p_foil")


def blocks(results: Results, budget: int = BUDGET) -> list[str]:
    """Return a block of JSON for every pair of `results.pairs()`, safe inside a script element.

    Methods come before controls; what is over the budget has no arrays but the reason.
    """
    made = [_block(results, model, task) for model, task in results.pairs()]
    entries = sorted(
        (entry for block in made for entry in block["methods"]),
        key=lambda one: bool(one["control"]),
    )
    for entry in entries:
        budget -= len(json.dumps(entry))
        if budget < 0:
            for key in ("maps", "sweeps", "stored"):
                entry.pop(key, None)
            entry["missing"] = "left out, to keep this page small; its cell holds it"
    return [_safe(block) for block in made]


def _safe(block: dict[str, Any]) -> str:
    """JSON in which nothing can end a script element or open a comment."""
    text = json.dumps(block, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _block(results: Results, model: str, task: str) -> dict[str, Any]:
    records = results.of(model, task)
    done = [record for record in records if record.status == "done"]
    prompts = next((record.prompts for record in done if record.prompts), {})
    splits = [split for split in splits_of(done) if split in prompts]
    strings = _Strings()
    return {
        "model": visible(model),
        "task": visible(task),
        "splits": splits,
        "prompts": {split: [_prompt(one) for one in prompts[split]] for split in splits},
        "methods": [
            _method(results, label, group, splits, strings)
            for label, group in group_cells(records).items()
        ],
        "strings": strings.known,
    }


def _prompt(prompt: PromptRecord) -> dict[str, str]:
    return {key: visible(getattr(prompt, key)) for key in ("clean", "corrupted", "answer", "foil")}


class _Strings:
    """Tokens by number, each once."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self._index: dict[str, int] = {}

    def index(self, text: str) -> int:
        if text not in self._index:
            self._index[text] = len(self.known)
            self.known.append(text)
        return self._index[text]


def _method(
    results: Results,
    label: str,
    group: Sequence[CellRecord],
    splits: Sequence[str],
    strings: _Strings,
) -> dict[str, Any]:
    first = group[0]
    entry: dict[str, Any] = {
        "label": visible(label),
        "trained": first.trained,
        "control": first.control,
    }
    cells = []
    for record in group:
        if record.status != "done":
            continue
        try:
            cells.append((record, results.small_tensors(record.id)))
        except CorruptCellError:
            continue
    if not cells:
        return entry | {"missing": "no result: see the cells without a result"}
    record, tensors = cells[0]
    several = f" of {len(cells)}" if len(cells) > 1 else ""
    unit = f"draw {record.draw}" if record.control else f"seed {record.seed}"
    entry |= {"star": record.beta.star if record.beta else None, "cell": f"{unit}{several}"}
    scores = [t["scores"] for _, t in cells if "scores" in t]
    if scores and record.grid is not None and len({one.shape for one in scores}) == 1:
        mean = np.mean(scores, axis=0)
        finite = np.abs(mean[np.isfinite(mean)])
        scale = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        entry["maps"] = [_map(one, scale) for one in _maps(record, mean)]
    entry["sweeps"] = {split: _sweep(record, tensors, split, strings) for split in splits}
    entry["stored"] = {split: _stored(tensors, split) for split in splits}
    return entry


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
    record: CellRecord, tensors: Tensors, split: str, strings: _Strings
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
    """Of every prompt: (prompt, beta) each, at the few strengths of the evaluation."""
    names = ("beta", *STORED)
    found = {name: tensors.get(f"split.{split}.{name}") for name in names}
    return {
        name: _encode(array, "<f4") for name, array in found.items() if array is not None
    } or None


def _encode(array: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind)).tobytes()).decode()
