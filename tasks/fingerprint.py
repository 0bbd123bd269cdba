"""What a task is made of, as a digest: other data or other wordings make other cells."""

import hashlib
import json
from itertools import islice

from tasks.task import SPLITS, PromptPair, Task

DRAWN = 64
"""Candidates of each split that count; every entity counts by its probes."""


def fingerprint(task: Task) -> str:
    """The sha256 over a task's entities, what it asks about each, and the first prompts it draws.

    It does not depend on a tokenizer, and a change of the files or templates behind the task shows
    in it.
    """
    digest = hashlib.sha256()
    entities = list(task.entities())
    for split in SPLITS:
        pairs = [task.probe(split, entity) for entity in entities]
        pairs += islice(task.candidates(split, entities, 0), DRAWN)
        digest.update(json.dumps([split, entities, [_plain(pair) for pair in pairs]]).encode())
    return digest.hexdigest()


def _plain(pair: PromptPair) -> list[str]:
    return [pair.clean, pair.corrupted, pair.answer, pair.foil, pair.entity]
