"""Loads the model of a cell, and makes sure that it is the one that was planned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bench.matrix.cells import PlannedCell
from bench.models.load import STATED, LoadedModel, load_model, stated_of
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


class OtherModelError(UserInputError):
    """The model that was loaded is not the one that the cell is about."""


@dataclass(frozen=True)
class OpenedModel:
    """A model for cells.

    Attributes:
        model: as it was loaded.
        subject: the same, behind the verbs that methods know.
    """

    model: LoadedModel
    subject: SubjectModel


def open_model(cell: PlannedCell, contents: dict[str, str]) -> OpenedModel:
    """The model of a cell.

    Args:
        cell: what it is for.
        contents: digest of a model -> what it has to hold (`LoadedModel.content`), where known;
            what this one holds is added.

    Raises:
        OtherModelError: for another model than was planned, pinned, or used before.
        Exception: if it cannot be had. A UserInputError where the user can mend it.
    """
    choice = cell.model
    model = load_model(
        choice.name,
        dtype=choice.dtype,
        device=choice.device,
        packed=choice.packed and choice.autocast == "none",
        bos=choice.bos,
    )
    _check(model, cell, contents.get(model.digest))
    contents[model.digest] = model.content
    autocast = None if choice.autocast == "none" else getattr(torch, choice.autocast)
    subject = SubjectModel(model.bridge, autocast=autocast)
    with torch.no_grad():  # the bridge adds hooks of its own at its first forward
        subject.logits(torch.arange(2, device=subject.device).view(1, 2))
    subject.passes.forward = 0
    return OpenedModel(model, subject)


def _check(model: LoadedModel, cell: PlannedCell, before: str | None) -> None:
    settings, pinned = cell.settings["model"], cell.model.digest
    planned, stated = settings["digest"], {key: settings[key] for key in STATED & {*settings}}
    entry = {**stated_of(model.name), **cell.model.stated}
    problem = ""
    if model.digest != planned:
        problem = f"has the digest {model.digest}, but the matrix was planned with {planned}"
    elif pinned is not None and pinned not in (model.digest, model.content):
        problem = f"holds {model.content}, but the matrix asks for the digest {pinned}"
    elif entry != stated:
        problem = f"has the entry {entry}, but was planned with {stated}"
    elif before not in (None, model.content):
        problem = f"holds {model.content}, but finished cells were made with {before}"
    if problem:
        raise OtherModelError(
            f'Model "{cell.model.name}": what is loaded here {problem}. It was changed since, '
            "or is another one on this machine."
        )


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether matrix products on CUDA may round their factors to ten bits of mantissa."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
