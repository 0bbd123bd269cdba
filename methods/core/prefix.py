"""Prompts up to their first intervention point: run once, whatever the intervention and strength.

No intervention reaches a position before its first point, so the keys and values there are those
of the unsteered run. They are kept as the model's own cache has them, and every steered run starts
behind them: one token instead of a whole prompt where points of the last position alone take part.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.core.hooks import Edit
from methods.core.intervention import Intervention
from methods.core.memory import NotEnoughMemoryError, is_out_of_memory, require_memory
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

logger = logging.getLogger(__name__)

WORTHWHILE = 0.2
"""Share of a prompt from which on fetching keys and values costs less than running it."""


def plain_cache() -> Any:
    """A cache that keeps the keys and values of all positions, sliding windows or not."""
    from transformers import DynamicCache

    return DynamicCache()


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the first positions of some prompts, layer by layer.

    Attributes:
        tokens: the whole prompts.
        length: positions at their start that are not run again; 0 where nothing is shared.
        keys, values: empty where nothing is shared.
        mask: False at padding; nothing is shared by prompts of several lengths.
        first: each prompt's first position that may change, where there is padding.
    """

    tokens: Int[Tensor, "prompt position"]
    length: int = 0
    keys: Sequence[Float[Tensor, "prompt head shared width"]] = ()
    values: Sequence[Float[Tensor, "prompt head shared width"]] = ()
    mask: Bool[Tensor, "prompt position"] | None = None
    first: Int[Tensor, " prompt"] | None = None

    @staticmethod
    def of(subject: SubjectModel, prompts: Prompts, length: int) -> Prefix:
        """The first `length` positions of prompts.

        Nothing where that is a small part of a prompt, where the model's dtype is so coarse that
        the way to a logit would show in it, where the keys and values would not fit and, with a
        line in the log, where the model cannot go on from a cache to the same logits.
        """
        tokens = prompts.tokens
        whole = Prefix(tokens, mask=prompts.mask, first=prompts.first)
        worthwhile = length >= WORTHWHILE * prompts.n_positions and subject.is_exact
        if not worthwhile or prompts.mask is not None or subject.goes_on_from_a_cache is False:
            return whole
        try:
            _require_memory(subject, tokens, length)
            shared = _run(subject, tokens, length)
            if subject.goes_on_from_a_cache is None:
                _check(subject, whole, shared)
        except NotEnoughMemoryError:
            return whole  # takes longer, and no more memory than any forward
        except UserInputError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise  # the longer way would not fit either
            logger.warning(
                "%s does not go on from a cache to the same logits (%s: %s); every steered run "
                "starts at the first token instead, which takes longer",
                subject.bridge.cfg.architecture,
                type(error).__name__,
                error,
            )
            subject.goes_on_from_a_cache = False
            return whole
        subject.goes_on_from_a_cache = True
        return shared

    def until(self, length: int) -> Prefix:
        """The same of the first `length` positions at most; nothing where these are few."""
        length = min(self.length, length)
        if length == self.length:
            return self
        if length < WORTHWHILE * self.tokens.shape[1]:
            return Prefix(self.tokens)
        keys, values = ([kept[:, :, :length] for kept in one] for one in (self.keys, self.values))
        return Prefix(self.tokens, length, keys, values)

    def take(self, prompts: Sequence[int]) -> Prefix:
        """The same of some of the prompts."""
        rows = list(prompts)
        return Prefix(
            self.tokens[rows],
            self.length,
            [keys[rows] for keys in self.keys],
            [values[rows] for values in self.values],
            None if self.mask is None else self.mask[rows],
            None if self.first is None else self.first[rows],
        )

    def steer(
        self,
        subject: SubjectModel,
        rows: Int[Tensor, " row"],
        intervention: Intervention | None,
        beta: Float[Tensor, " row"],
    ) -> Float[Tensor, "row vocab"]:
        """Logits of one forward under the caller's grad mode.

        Args:
            subject: the model.
            rows: which prompt each row of the forward is.
            intervention: what is done to activations, from position `length` on; None leaves them.
            beta: its strength in each row.
        """
        first = None if self.first is None else self.first[rows]
        edit = None if intervention is None else intervention.at(beta, self.length, first)
        return self.logits(subject, rows, edit)

    def logits(
        self, subject: SubjectModel, rows: Int[Tensor, " row"], edit: Edit | None
    ) -> Float[Tensor, "row vocab"]:
        """Logits of one forward under the caller's grad mode.

        Args:
            subject: the model.
            rows: which prompt each row of the forward is.
            edit: what is done to activations; it sees positions from `length` on.
        """
        mask = None if self.mask is None else self.mask[rows]
        cache = self._cache(rows) if self.length else None
        tokens = self.tokens[rows, self.length :]
        return subject.logits(tokens, edit, past_key_values=cache, mask=mask)

    def _cache(self, rows: Tensor) -> Any:
        cache = plain_cache()
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(keys[rows], values[rows], layer)
        return cache


def _require_memory(subject: SubjectModel, tokens: Tensor, length: int) -> None:
    require_memory(
        2 * subject.n_layers * len(tokens) * length * subject.d_model * subject.dtype.itemsize,
        subject.device,
        f"the keys and values of {length} positions of {len(tokens)} prompts",
        "fewer prompts",
    )


@torch.no_grad()
def _run(subject: SubjectModel, tokens: Tensor, length: int) -> Prefix:
    """Runs the shared positions in chunks that fit a forward."""
    keys: list[list[Tensor]] = [[] for _ in range(subject.n_layers)]
    values: list[list[Tensor]] = [[] for _ in range(subject.n_layers)]
    counted = subject.passes.forward
    for rows in subject.chunks(len(tokens)):
        cache = plain_cache()
        subject.logits(tokens[rows, :length], past_key_values=cache)
        for layer in range(subject.n_layers):
            keys[layer].append(cache.layers[layer].keys)
            values[layer].append(cache.layers[layer].values)
    subject.passes.forward = counted  # a part of each steered row, which counts as a whole one
    return Prefix(
        tokens, length, [torch.cat(parts) for parts in keys], [torch.cat(parts) for parts in values]
    )


@torch.no_grad()
def _check(subject: SubjectModel, whole: Prefix, shared: Prefix) -> None:
    """Raises RuntimeError where going on from the cache does not give the model's own logits."""
    counted = subject.passes.forward
    first = torch.arange(min(2, len(whole.tokens)), device=whole.tokens.device)
    beta = torch.zeros(len(first), device=whole.tokens.device)
    expected, found = (run.steer(subject, first, None, beta) for run in (whole, shared))
    subject.passes.forward = counted
    tolerance = subject.tolerance
    size = float(expected.std())  # a scale behind the unembedding may make all logits small
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * size):
        difference = float((found - expected).abs().max())
        raise RuntimeError(f"logits differ by {difference:.2g}")
