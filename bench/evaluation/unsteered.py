"""Measures how an unsteered model does on tasks: the paper's Table 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
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


@dataclass(frozen=True)
class Unsteered:
    """How a model does on the test prompts of a task. LD = logit(answer) - logit(foil).

    Attributes:
        model: its name.
        task: the task's label.
        example: the first prompt, with its answer and foil.
        n_prompts: how many prompts were measured.
        n_entities: entities that the model's tokenizer can use, of how many.
        lengths: the shortest and the longest prompt in tokens, BOS included.
        ld: mean LD, and its standard error.
        E_0: minus the mean of |LD|, the unsteered E_0.
        answer_ahead: share of prompts with LD > 0.
        top: shares of prompts whose most likely token is the answer, and the foil.
        mass: mean P(answer) + P(foil).
        corrupted: mean LD after the corrupted prompts, by corruption.
        shifted: mean LD on the shifted split; None where the task has none.
        problem: why there are no numbers.
        dropped: how many entities and pairs were dropped, by reason.
    """

    model: str
    task: str
    example: tuple[str, str, str] = ("", "", "")
    n_prompts: int = 0
    n_entities: tuple[int, int] = (0, 0)
    lengths: tuple[int, int] = (0, 0)
    ld: tuple[float, float] = (float("nan"), float("nan"))
    E_0: float = float("nan")
    answer_ahead: float = float("nan")
    top: tuple[float, float] = (float("nan"), float("nan"))
    mass: float = float("nan")
    corrupted: dict[str, float] = field(default_factory=dict)
    shifted: float | None = None
    problem: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)


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
) -> Iterator[Unsteered]:
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
            yield Unsteered(model.name, label, problem=problem)
            continue
        try:
            yield _measured(model, subject, label, task, n_prompts, seed)
        except UserInputError as error:
            yield Unsteered(model.name, label, problem=str(error))


def _measured(
    model: LoadedModel, subject: SubjectModel, label: str, task: Any, n_prompts: int, seed: int
) -> Unsteered:
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
    return Unsteered(
        model=model.name,
        task=label,
        example=(batch.pairs[0].clean, batch.pairs[0].answer, batch.pairs[0].foil),
        n_prompts=len(batch),
        n_entities=(n_entities - refused, n_entities),
        lengths=(int(batch.lengths.min()), int(batch.lengths.max())),
        ld=(_mean(ld), float(ld.std() / len(ld) ** 0.5) if len(ld) > 1 else float("nan")),
        E_0=-_mean(ld.abs()),
        answer_ahead=_mean(ld > 0),
        top=(_mean(most_likely == prompts.answers), _mean(most_likely == prompts.foils)),
        mass=_mean(mass),
        corrupted=corrupted,
        shifted=shifted,
        dropped={why: n for why, n in encoded.dropped.items() if not why.startswith("split: ")},
    )


def _corrupted_ld(subject: SubjectModel, encoded: EncodedTask) -> Float[Tensor, " prompt"]:
    prompts = Prompts.of(encoded.batches["test"], subject.device)
    return prompts.logit_difference(subject.unsteered_logits(prompts.corrupted, mask=prompts.mask))


def _mean(values: Tensor) -> float:
    return float(values.float().mean())


def as_frame(rows: Sequence[Unsteered]) -> DataFrame:
    """One row a model and task, as shown in the documentation, in columns of text and numbers."""
    from pandas import DataFrame

    return DataFrame([_columns(row) for row in rows])


def _columns(row: Unsteered) -> dict[str, object]:
    shortest, longest = row.lengths
    corrupted = "; ".join(f"{kind} {ld:+.2f}".strip() for kind, ld in row.corrupted.items())
    return {
        "model": row.model,
        "task": row.task,
        "prompts": row.n_prompts,
        "entities": "{} of {}".format(*row.n_entities),
        "tokens": str(shortest) if shortest == longest else f"{shortest}-{longest}",
        "LD": round(row.ld[0], 2),
        "s.e.": round(row.ld[1], 2),
        "E_0": round(row.E_0, 2),
        "answer ahead": round(row.answer_ahead, 2),
        "top-1 answer": round(row.top[0], 2),
        "top-1 foil": round(row.top[1], 2),
        "mass": round(row.mass, 2),
        "LD corrupted": corrupted,
        "LD shifted": None if row.shifted is None else round(row.shifted, 2),
        "example": row.example[0],
        "answer": row.example[1],
        "foil": row.example[2],
        "problem": row.problem,
        "dropped": "; ".join(f"{reason} ({count})" for reason, count in row.dropped.items()),
    }
