"""Whether a block leaves a model and torch as they were, by the definition that runs have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.conformance.check import NotConformingError
from bench.execution.unchanged import LeftBehindError, left_unchanged
from methods.core.subject import SubjectModel


@contextmanager
def left_as_found(model: SubjectModel) -> Iterator[None]:
    """Requires that the block changes nothing about the model or the state of torch."""
    with torch.no_grad():  # the bridge adds hooks of its own at its first forward
        model.logits(torch.arange(2, device=model.device).view(1, 2))
    try:
        with left_unchanged(model, "a fit", checksum=True):
            yield
    except LeftBehindError as error:
        raise NotConformingError(str(error)) from None
