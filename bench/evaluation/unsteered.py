"""Measures how an unsteered model does on tasks: the paper's Table 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor

from bench.models.load import LoadedModel
from methods.core.prompts import Prompts, gather
from methods.core.subject import SubjectModel
from tasks import TASKS
from tasks.build import build_task, labels_of
from tasks.encoding import EncodedTask, encode
from tasks.errors import UserInputError
from tasks.task import Task, asked_of

if TYPE_CHECKING:
    from pandas import DataFrame

CORRUPTION = "corruption"
NOT_A_VARIETY = (CORRUPTION, "lengths")
"""Settings that do not change what is asked."""


Row = dict[str, Any]
"""How a model does on the test prompts of a task, by column. LD = logit(answer) - logit(foil).

`entities` that the model's tokenizer can use, of how many; `tokens` of a prompt, BOS included; mean
`LD` and its standard error; `E_0`, minus the mean of |LD|; the share of prompts with LD > 0, and
those whose most likely token is the answer or the foil; `mass`, mean P(answer) + P(foil); mean LD
after corrupted prompts, by corruption, and on the shifted split; the first prompt with its answer
and foil; `problem`, why there are no numbers; how many entities and pairs were `dropped`, and why.
"""
NUMBERS = ("LD", "s.e.", "E_0", "answer ahead", "top-1 answer", "top-1 foil", "mass")


def every_variety() -> list[tuple[str, Task]]:
    """Every task that needs no settings, once for each template, family or order that it has.

    Raises:
        UserInputError: for a task of a plug-in that cannot be loaded.
    """
    found = []
    for name, entry in TASKS.items():
        hints = get_type_hints(entry.load())
        try:
            plain: Any = build_task(name, {})[1]
        except UserInputError:
            continue  # a file needs its path
        if hasattr(plain, "asked_of"):
            continue  # it asks models of its own alone
        choices = {
            setting.name: get_args(hints[setting.name])
            for setting in fields(plain)
            if get_origin(hints[setting.name]) is Literal and setting.name not in NOT_A_VARIETY
        }
        for values in product(*choices.values()):
            found.append((name, replace(plain, **dict(zip(choices, values, strict=True)))))
    return found


def measure(
    model: LoadedModel, tasks: Sequence[tuple[str, Task]], *, n_prompts: int = 64, seed: int = 0
) -> Iterator[Row]:
    """Measures the unsteered model on the test prompts of tasks.

    Args:
        model: the model.
        tasks: names and tasks.
        n_prompts: of each split, or as many as there are.
        seed: of the draw.
    """
    subject = SubjectModel(model.bridge)
    for label, (_, given) in zip(labels_of(tasks), tasks, strict=True):
        task = asked_of(given, model.name)
        if task is None:
            problem = "the task has prompts for models of its own alone"
            yield _row(model.name, label, problem=problem)
            continue
        try:
            found = _measured(model, subject, task, n_prompts, seed)
            yield _row(model.name, label, **found)
        except UserInputError as error:
            yield _row(model.name, label, problem=str(error))


def _row(model: str, task: str, **found: object) -> Row:
    corrupted = {"LD corrupted": "", "LD shifted": None}
    text = dict.fromkeys(("example", "answer", "foil", "problem", "dropped"), "")
    counts = {"prompts": 0, "entities": "0 of 0", "tokens": "0"}
    numbers = dict.fromkeys(NUMBERS, float("nan"))
    return {"model": model, "task": task, **counts, **numbers, **corrupted, **text, **found}


def _measured(
    model: LoadedModel, subject: SubjectModel, task: Any, n_prompts: int, seed: int
) -> Row:
    def encoded_with(**corruption: str) -> EncodedTask:
        asked = replace(task, **corruption)
        sizes = {"train": 2, "test": n_prompts, "shifted": n_prompts}
        how: dict[str, Any] = {"at_most": True, "limits": model.limits}
        return encode(asked, model.tokenizer, sizes, model.bos_id, seed, **how)

    encoded = encoded_with()
    batch = encoded.batches["test"]
    prompts = Prompts.of(batch, subject.device)
    logits = subject.unsteered_logits(prompts.tokens, mask=prompts.mask)
    ld = prompts.logit_difference(logits)
    probabilities = torch.softmax(logits, dim=-1)
    mass = gather(probabilities, prompts.answers) + gather(probabilities, prompts.foils)
    most_likely = logits.argmax(dim=-1)
    kinds = get_args(get_type_hints(type(task)).get(CORRUPTION)) or ("",)
    corrupted = {
        kind: _mean(_corrupted_ld(subject, encoded_with(**({CORRUPTION: kind} if kind else {}))))
        for kind in kinds
    }
    shifted = None
    if "shifted" in encoded.batches:
        other = Prompts.of(encoded.batches["shifted"], subject.device)
        shifted = _mean(
            other.logit_difference(subject.unsteered_logits(other.tokens, mask=other.mask))
        )
    refused = sum(n for why, n in encoded.dropped.items() if "entity: " in why)
    n_entities = len(task.entities())
    shortest, longest = int(batch.lengths.min()), int(batch.lengths.max())
    first = batch.pairs[0]
    return {
        "prompts": len(batch),
        "entities": f"{n_entities - refused} of {n_entities}",
        "tokens": str(shortest) if shortest == longest else f"{shortest}-{longest}",
        "LD": _mean(ld),
        "s.e.": float(ld.std() / len(ld) ** 0.5) if len(ld) > 1 else float("nan"),
        "E_0": -_mean(ld.abs()),
        "answer ahead": _mean(ld > 0),
        "top-1 answer": _mean(most_likely == prompts.answers),
        "top-1 foil": _mean(most_likely == prompts.foils),
        "mass": _mean(mass),
        "LD corrupted": "; ".join(f"{kind} {ld:+.2f}".strip() for kind, ld in corrupted.items()),
        "LD shifted": shifted,
        **{"example": first.clean, "answer": first.answer, "foil": first.foil},
        "dropped": "; ".join(
            f"{why} ({n})" for why, n in encoded.dropped.items() if not why.startswith("split: ")
        ),
    }


def _corrupted_ld(subject: SubjectModel, encoded: EncodedTask) -> Float[Tensor, " prompt"]:
    prompts = Prompts.of(encoded.batches["test"], subject.device)
    return prompts.logit_difference(subject.unsteered_logits(prompts.corrupted, mask=prompts.mask))


def _mean(values: Tensor) -> float:
    return float(values.float().mean())


def as_frame(rows: Sequence[Row]) -> DataFrame:
    """One row a model and task, as shown in the documentation, in columns of text and numbers."""
    from pandas import DataFrame

    return DataFrame(list(rows)).round(2)
