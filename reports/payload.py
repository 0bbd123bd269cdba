"""What the page can show beyond its tables, one block of JSON a model and task.

Score maps, sweeps and prompts; `reports.arrays` has the arrays of a method. A large run does not
fit: parts give way, controls before methods and those of the worst methods first, and the page
says what it leaves out.
"""

import json
from collections import Counter
from typing import Any

from reports.arrays import SHOWN_PROMPTS, Numbered, entry_of
from reports.labels import group_cells
from reports.load import Results, splits_of
from reports.tables.leaderboard import leaderboard
from tasks.text import visible

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
    return [_safe(block) for block in made], left_out


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


def _safe(block: dict[str, Any]) -> str:
    """JSON in which nothing can end a script element or open a comment."""
    text = json.dumps(block, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _block(results: Results, model: str, task: str) -> dict[str, Any]:
    records = results.of(model, task)
    splits = splits_of([record for record in records if record.status == "done"])
    strings, prompts, asked = Numbered(), Numbered(), Numbered()
    groups = group_cells(records)
    order = [label for label in leaderboard(results, model, task)["method"] if label in groups]
    entries = []
    for label in order:
        entry = entry_of(results, label, groups[label], splits, strings)
        # methods need not have the same prompts: how many train prompts there are may vary
        record = next((one for one in groups[label] if one.status == "done"), None)
        numbers = tuple(
            (split, tuple(prompts.index((p.clean, p.answer, p.foil)) for p in of[:SHOWN_PROMPTS]))
            for split in splits
            if record and (of := record.prompts.get(split)) is not None
        )
        entry["asked"] = asked.index(numbers) if record else None
        entries.append(entry)
    names = ("clean", "answer", "foil")
    return {
        "model": visible(model),
        "task": visible(task),
        "splits": splits,
        "prompts": [dict(zip(names, map(visible, one), strict=True)) for one in prompts.known],
        "asked": [{split: list(of) for split, of in one} for one in asked.known],
        "methods": entries,
        "strings": strings.known,
    }
