"""Which cells of two runs are to be compared: what they are decides, and then their settings.

Cells are candidates for each other where model, task, method (by name), seed, draw and draw of
prompts are the same, and of a shuffled control what it shuffles. Among candidates those with equal
settings belong together; of the rest the two that differ least, as long as no other is as near:
where two settings of one run are equally near to one of the other, nobody knows which became it.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from bench.store.records import CellRecord
from bench.store.tidy import flat_settings
from reports.load import Results, parent_of, plain_name, prompts_seed

Pair = tuple[CellRecord | None, CellRecord | None]
NOT_COMPARED = {"parent", "task.path", "model.name"}
"""Settings that decide no number: where a file lies; whose digest is another setting."""
NONE = "none"


def matched(here: Results, there: Results) -> list[Pair]:
    """Return every cell of two runs once, with its partner or None, in the order of `here`."""
    candidates: dict[Hashable, tuple[list[CellRecord], list[CellRecord]]] = {}
    for side, results in enumerate((here, there)):
        for record in results.records:
            candidates.setdefault(_key(record), ([], []))[side].append(record)
    partners: dict[str, CellRecord] = {}
    for ours, theirs in candidates.values():
        partners |= {a.id: b for a, b in _nearest(ours, theirs)}
    taken = {record.id for record in partners.values()}
    pairs: list[Pair] = [(record, partners.get(record.id)) for record in here.records]
    return pairs + [(None, record) for record in there.records if record.id not in taken]


def _key(record: CellRecord) -> Hashable:
    of = parent_of(record) if record.control else None
    return (
        *(record.model, record.task, plain_name(record.method), of and plain_name(of)),
        *(record.seed, record.draw, prompts_seed(record)),
    )


def _nearest(
    ours: list[CellRecord], theirs: list[CellRecord]
) -> Iterator[tuple[CellRecord, CellRecord]]:
    """Pair candidates: equal settings first, then the nearest, each the other's only nearest."""
    settings = {id(one): _settings(one) for one in (*ours, *theirs)}
    ours, theirs = list(ours), list(theirs)
    while ours and theirs:
        distance = [
            [len(_differing(settings[id(a)], settings[id(b)])) for b in theirs] for a in ours
        ]
        columns = list(zip(*distance, strict=True))
        found = [
            (a, b)
            for a, row in enumerate(distance)
            for b, apart in enumerate(row)
            if apart == min(row) == min(columns[b])
            and Counter(row)[apart] == Counter(columns[b])[apart] == 1
        ]
        if not found:
            return
        yield from ((ours[a], theirs[b]) for a, b in found)
        ours = [one for place, one in enumerate(ours) if place not in {a for a, _ in found}]
        theirs = [one for place, one in enumerate(theirs) if place not in {b for _, b in found}]


def _settings(record: CellRecord) -> dict[str, str]:
    return {k: v for k, v in flat_settings(record.settings).items() if k not in NOT_COMPARED}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*a, *b} if a.get(key) != b.get(key))


def settings_changed(a: CellRecord, b: CellRecord) -> str:
    """Return which settings differ, as `method.learning_rate=0.02 (there 0.01)`; "" for none."""
    here, there = _settings(a), _settings(b)
    return ", ".join(
        f"{key}={here.get(key, NONE)} (there {there.get(key, NONE)})"
        for key in _differing(here, there)
    )
