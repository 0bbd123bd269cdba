"""Whether a block leaves a model and torch as they were found, by the definition that runs have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from bench.conformance.check import NotConformingError
from bench.running.left import Found, LeftBehindError
from bench.running.model_state import Code, ModelState
from bench.running.torch_state import TorchState, modes
from methods.core.subject import SubjectModel


@contextmanager
def left_as_found(model: SubjectModel) -> Iterator[None]:
    """Requires that the block changes nothing about the model or the state of torch."""
    try:
        with Found(ModelState(model)).left_by("a fit"):
            yield
    except LeftBehindError as error:
        raise NotConformingError(str(error)) from None


@contextmanager
def undone(model: nn.Module) -> Iterator[None]:
    """What the block changes of torch and of the model's code is put back, and nobody is told.

    What it changes of the model itself stays: nobody uses that again.
    """
    torch_state, code = TorchState(), Code(type(module) for module in model.modules())
    try:
        with modes():
            yield
    finally:
        torch_state.restore()
        code.restore()
