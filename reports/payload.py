"""What the page can show beyond its tables: score maps, sweeps and what every prompt stores.

One block of JSON a model and task. Arrays are base64 of little-endian numbers: maps as fp16 shares
of their largest |score| (three digits are all that a colour or a hover needs), everything whose
digits are printed as fp32. The page decodes a method's arrays when it is shown. A large run does
not fit: parts give way, controls before methods and those of the worst methods first, and the page
says what it leaves out.
"""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from numpy.typing import NDArray

from bench.store.cells import Tensors
from bench.store.records import CellRecord
from reports.labels import group_cells
from reports.load import Results, splits_of
from reports.scores import maps_of
from reports.tables.leaderboard import leaderboard
from reports.text import token
from tasks.text import visible

SHOWN_TOKENS = 5
SHOWN_PROMPTS = 200
"""Prompts of a split that the page offers; a list of more cannot be chosen from."""
SWEPT = ("logit_answer", "logit_foil", "p_answer", "p_foil", "kl")
STORED = ("ld", "kl", "p_answer", "p_foil")
BUDGET = 10_000_000
"""Bytes of all blocks together, so that the page stays under 20 MB."""
PARTS = {"maps": "score maps", "sweeps": "sweeps", "stored": "strengths of the evaluation"}
"""What may be left out, the first last."""


def blocks(results: Results, budget: int = BUDGET) -> tuple[list[str], dict[str, int]]:
    """Return a block of JSON for every pair of `results.pairs()`, safe inside a script element.

    With it what is left out, to keep within `budget` bytes: how many methods' maps, sweeps ...
    """
    made = [_block(results, model, task) for model, task in results.pairs()]
    left_out = _shrink(made, budget)
    how: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    return [str(htmlsafe_json_dumps(block, **how)) for block in made], left_out


def _shrink(made: list[dict[str, Any]], budget: int) -> dict[str, int]:
    """Take the parts out of the entries that do not fit, the least wanted ones; count them."""
    left_out: Counter[str] = Counter()
    parts = []
    for block in made:
        for place, entry in enumerate(block["methods"]):
            for rank, part in enumerate(PARTS):
                if part in entry:
                    parts.append(((entry["control"], rank, place), entry, part))
    sizes = {(id(entry), part): _size(entry[part]) for _, entry, part in parts}
    budget -= sum(map(_size, made)) - sum(sizes.values())
    for _, entry, part in sorted(parts, key=lambda one: one[0]):
        size = sizes[id(entry), part]
        if size <= budget:
            budget -= size
        else:
            del entry[part]
            entry.setdefault("left_out", []).append(PARTS[part])
            left_out[PARTS[part]] += 1
    return dict(left_out)


def _size(part: object) -> int:
    return len(json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode())


def _block(results: Results, model: str, task: str) -> dict[str, Any]:
    records = results.of(model, task)
    splits = splits_of([record for record in records if record.status == "done"])
    strings, prompts, asked = (defaultdict[Any, int](count().__next__) for _ in range(3))
    groups = group_cells(records)
    order = [label for label in leaderboard(results, model, task)["method"] if label in groups]
    entries = []
    for label in order:
        entry = _entry(results, label, groups[label], splits, strings)
        # methods need not have the same prompts: how many train prompts there are may vary
        record = next((one for one in groups[label] if one.status == "done"), None)
        numbers = tuple(
            (split, tuple(prompts[p.clean, p.answer, p.foil] for p in of[:SHOWN_PROMPTS]))
            for split in splits
            if record and (of := record.prompts.get(split)) is not None
        )
        entry["asked"] = asked[numbers] if record else None
        entries.append(entry)
    names = ("clean", "answer", "foil")
    return {
        "model": visible(model),
        "task": visible(task),
        "splits": splits,
        "prompts": [dict(zip(names, map(visible, one), strict=True)) for one in prompts],
        "asked": [{split: list(of) for split, of in one} for one in asked],
        "methods": entries,
        "strings": list(strings),
    }


def _entry(
    results: Results,
    label: str,
    group: Sequence[CellRecord],
    splits: Sequence[str],
    strings: dict[Any, int],
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
    unit = f"draw {record.draw}" if record.control else f"seed {record.seed}"
    entry["star"] = record.beta.star if record.beta else None
    entry["cell"] = f"{unit}, the first of {len(cells)}" if len(cells) > 1 else unit
    entry |= _scores(results, [(one, stored) for one, stored in cells if "scores" in stored])
    entry["sweeps"] = {split: _sweep(record, tensors, split, strings) for split in splits}
    entry["stored"] = {split: _stored(tensors, split) for split in splits}
    return entry


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
    return {
        "maps": [
            {
                **{"title": visible(one.title), "layers": len(one.values), "columns": one.columns},
                "scale": scale,
                "values": _encode(
                    np.where(np.isfinite(one.values), one.values / scale, np.nan), "<f2"
                ),
            }
            for one in maps_of(record, mean)
        ],
        "maps_of": ", ".join(parts),
    }


def _sweep(
    record: CellRecord, tensors: Tensors, split: str, strings: dict[Any, int]
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
        names = {int(one): record.top_tokens.get(str(one), f"#{one}") for one in np.unique(ids)}
        numbers = {one: strings[token(name, 24)] for one, name in names.items()}
        found["top"] = _encode(np.vectorize(numbers.__getitem__)(ids), "<u4")
        found["top_p"] = _encode(p[..., :SHOWN_TOKENS], "<f4")
        found["n_top"] = int(ids.shape[-1])
    return found


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
