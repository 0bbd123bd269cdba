"""Patched runs that recompute only what a patch can reach.

A patch at (layer, position) changes nothing in the layers below it and nothing at the positions
before it. So a run with a patch resumes the unpatched one at its layer, on the tokens from its
position on, and takes the keys and values of earlier positions from the unpatched run. Per prompt
and site that is about L^2 I^2 / 4 layer-tokens for L layers and I positions instead of L^2 I^2.

No block's forward is written again here: the model is called once on the remaining tokens over a
cache cut at the position, where the arguments that it has for each of its blocks are noted and the
blocks left out; then they are called with these arguments, hidden states of the unpatched run, and
a cache that only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.core.corruption import Contrast
from methods.core.final_norm import FinalNorm, UnknownFinalNormError
from methods.core.hooks import Recorder
from methods.core.memory import is_out_of_memory, require_memory
from methods.core.patches import Patches, patched_rows
from methods.core.points import PointGrid, Site
from methods.core.prefix import plain_cache
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


class CannotResumeError(RuntimeError):
    """The model's layers cannot be driven from the outside, or not to the same numbers."""


@dataclass(frozen=True)
class Call:
    """Arguments of a block behind its hidden states, as the model itself gave them."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def changed(self, change: Callable[[str | int, Any], Any]) -> Call:
        """The same with every argument as `change` makes it of its name or index."""
        return Call(
            tuple(change(index, value) for index, value in enumerate(self.arguments)),
            {name: change(name, value) for name, value in self.keywords.items()},
        )


class ResumedRun:
    """The unpatched run of a contrast, ready to be resumed anywhere.

    Raises:
        CannotResumeError: if the model cannot be driven so; its message says why.
        NotEnoughMemoryError: if the unpatched run's states do not fit.
    """

    def __init__(self, subject: SubjectModel, grid: PointGrid, contrast: Contrast) -> None:
        self.subject, self.grid, self.contrast = subject, grid, contrast
        self.prompts = contrast.receiver.prompts
        self.blocks: list[nn.Module] = list(subject.bridge.blocks)
        self.behind: dict[int, list[None]] = {}
        if Site.RESID_POST not in subject.sites:
            raise CannotResumeError("what its last layer gives cannot be read")
        require_memory(
            3 * len(self.blocks) * self.prompts.tokens.numel() * subject.d_model * 4,
            subject.device,
            f"the states of {len(self.prompts)} unpatched runs",
            "fewer train prompts",
        )
        try:
            self._run_unpatched()
            self.unpatched = self._unpatched_by_resuming()
        except UnknownFinalNormError as error:
            raise CannotResumeError(str(error)) from error
        except (UserInputError, CannotResumeError):
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise  # the longer way would not fit either
            plain = isinstance(error, RuntimeError | ValueError)  # others say "0" or "list index"
            raise CannotResumeError(
                "it does not go on from a cache of keys and values alone"
                + (f": {error}" if plain else "")
            ) from error

    def logit_differences(self, patches: Patches) -> Float[Tensor, " patch"]:
        """LD of the receiver with one activation replaced, a row a patch; patches come by layer."""
        order: list[Tensor] = []
        found: list[Tensor] = []
        for position, at in enumerate(self.grid.positions):
            rows = (patches[:, 3] == position).nonzero()[:, 0]
            if not len(rows):
                continue
            calls = self._calls(at)
            budget = self.subject.rows_per_forward * self.prompts.n_positions
            for group in torch.split(rows, max(1, budget // (self.prompts.n_positions - at))):
                order.append(group)
                found.append(self._resume(at, patches[group], calls))
            self.subject.passes.forward += len(rows)
        ld = torch.empty(len(patches), device=self.subject.device)
        if order:
            ld[torch.cat(order).to(ld.device)] = torch.cat(found)
        return ld

    def _resume(self, at: int, patches: Tensor, calls: list[Call]) -> Tensor:
        """Runs patches at one position; a row joins the batch at the layer of its patch."""
        rows = torch.arange(len(patches))
        edit = patched_rows(self.grid, self.contrast, patches, rows, skipped=at)
        prompts = patches[:, 0].to(self.subject.device)
        n_joined = patches[:, 2].bincount(minlength=len(self.blocks)).cumsum(0).tolist()
        batch: list[Tensor] = []
        running = 0
        for layer in range(int(patches[0, 2]), len(self.blocks)):
            if n_joined[layer] > running:
                batch.append(self.inputs[layer][prompts[running : n_joined[layer]], at:])
                running = n_joined[layer]
            with self.subject.edited_layer(edit, layer):
                of_rows = prompts[:running]
                batch = [self._block(layer, torch.cat(batch), of_rows, at, calls[layer])]
        return self._read(batch[0][:, -1], prompts)

    def _block(self, layer: int, h: Tensor, prompts: Tensor, at: int, call: Call) -> Tensor:
        """The output of a block for `h` on the tokens from `at` on."""
        cache = _reading_cache(
            self.keys[layer][prompts, :, :at], self.values[layer][prompts, :, :at]
        )

        def of_these_rows(name: str | int, value: Any) -> Any:
            if _is_cache(value):
                return cache
            if name in self.by_row:
                if len(value) == 1:
                    return value.expand(len(h), *value.shape[1:])
                return value.repeat(len(h), *[1] * (value.dim() - 1))
            return value

        call = call.changed(of_these_rows)
        with self.subject.precision():
            output = self.blocks[layer](h, *call.arguments, **call.keywords)
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        return hidden

    def _read(self, h: Tensor, prompts: Tensor) -> Tensor:
        """LD from the last block's output at the answer position: two rows of the unembedding."""
        answers, foils = self.prompts.answers[prompts], self.prompts.foils[prompts]
        return self.norm.logit_difference(h, answers, foils)

    def _run_unpatched(self) -> None:
        """Keeps every block's input, keys and values, and reads the final norm."""
        inputs: list[list[Tensor]] = [[] for _ in self.blocks]
        keys: list[list[Tensor]] = [[] for _ in self.blocks]
        values: list[list[Tensor]] = [[] for _ in self.blocks]
        noise = self.contrast.receiver.noise
        final = (Site.RESID_POST, len(self.blocks) - 1)
        for rows in self.subject.chunks(len(self.prompts)):
            cache, residual = plain_cache(), Recorder([final])
            with self._noting(inputs, []):
                logits = self.subject.logits(
                    self.prompts.tokens[rows],
                    residual,
                    embedding_noise=None if noise is None else noise[rows],
                    past_key_values=cache,
                )
            if rows.start == 0:
                self.spread = float(logits.std(dim=-1).min())
                at_answer = residual.seen[final][:, -1]
                self.norm = FinalNorm.checked(self.subject, at_answer, logits)
            for layer in range(len(self.blocks)):
                stored = cache.layers[layer] if layer < len(cache.layers) else None
                if stored is None or getattr(stored, "keys", None) is None:
                    raise CannotResumeError(f"layer {layer} keeps no keys and values")
                keys[layer].append(stored.keys)
                values[layer].append(stored.values)
        self.inputs = [torch.cat(parts) for parts in inputs]
        self.keys = [torch.cat(parts) for parts in keys]
        self.values = [torch.cat(parts) for parts in values]

    def _unpatched_by_resuming(self) -> Float[Tensor, " prompt"]:
        """LD of the unpatched run, driven as patched ones are; compared with the model's own."""
        at = self.grid.positions[0]
        n = len(self.prompts)
        self.by_row = self._arguments_by_row(at)
        rows_run = max(2, n)  # calls are noted with one row, and have to hold for several
        everyone = torch.arange(rows_run, device=self.prompts.tokens.device) % n
        calls = self._calls(at)
        parts = []
        for rows in self.subject.chunks(len(everyone)):
            h = self.inputs[0][everyone[rows], at:]
            for layer, call in enumerate(calls):
                h = self._block(layer, h, everyone[rows], at, call)
            parts.append(self._read(h[:, -1], everyone[rows]))
        found = torch.cat(parts)[:n]
        expected = self.contrast.receiver.logit_difference(self.subject)
        tolerance = self.subject.tolerance  # and of the logits' size, which may be any
        if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * self.spread):
            difference = float((found - expected).abs().max())
            raise CannotResumeError(
                f"resumed layers give other logit differences than the model, by {difference:.2g}"
            )
        return found

    def _calls(self, at: int, rows: int = 1) -> list[Call]:
        """How the model calls its blocks on the tokens from `at` on, over a cache cut there.

        The first prompt is run, in as many rows.
        """
        cache, first = plain_cache(), [0] * rows
        for layer in range(len(self.blocks)):
            cache.update(self.keys[layer][first, :, :at], self.values[layer][first, :, :at], layer)
        calls: list[Call] = []
        with self._noting([[] for _ in self.blocks], calls, skip=True):
            self.subject.logits(self.prompts.tokens[first, at:], past_key_values=cache)
        return calls

    def _arguments_by_row(self, at: int) -> set[str | int]:
        """Arguments whose first axis counts rows, or rows times heads (BLOOM's biases)."""
        counted = self.subject.passes.forward
        one, two = self._calls(at)[0], self._calls(at, rows=2)[0]
        self.subject.passes.forward = counted  # of the way, not of the method
        lengths: list[dict[str | int, int]] = []
        for call in (one, two):
            named: dict[str | int, Any] = {}
            named.update(call.keywords.items())
            named.update(enumerate(call.arguments))
            lengths.append(
                {
                    name: len(value)
                    for name, value in named.items()
                    if isinstance(value, Tensor) and value.dim()
                }
            )
        return {name for name, length in lengths[0].items() if 2 * length == lengths[1][name]}

    @contextmanager
    def _noting(
        self, inputs: list[list[Tensor]], calls: list[Call], skip: bool = False
    ) -> Iterator[None]:
        """Notes the hidden states and the other arguments of every call of a block.

        With `skip` blocks are not run: they hand on what they are given.
        """

        def noted(layer: int, forward: Any, *arguments: Any, **keywords: Any) -> Any:
            h, *others = arguments or [keywords.pop("hidden_states")]
            inputs[layer].append(h.detach())
            calls.append(Call(tuple(others), keywords))
            if skip:
                behind = self.behind.get(layer)
                return h if behind is None else (h, *behind)
            output = forward(h, *others, **keywords)
            if isinstance(output, tuple):
                self.behind[layer] = [None] * (len(output) - 1)
            return output

        own = [vars(block).get("forward") for block in self.blocks]  # an adapter may have set one
        for layer, block in enumerate(self.blocks):
            vars(block)["forward"] = partial(noted, layer, block.forward)
        try:
            yield
        finally:
            for block, forward in zip(self.blocks, own, strict=True):
                del vars(block)["forward"]
                if forward is not None:
                    vars(block)["forward"] = forward


def _is_cache(value: object) -> bool:
    from transformers import Cache

    return isinstance(value, Cache)


def _reading_cache(keys: Tensor, values: Tensor) -> Any:
    """A cache of one layer that puts earlier positions in front and stores nothing."""
    from transformers import DynamicCache

    class ReadingCache(DynamicCache):
        def update(
            self, key_states: Tensor, value_states: Tensor, *arguments: Any, **keywords: Any
        ) -> tuple[Tensor, Tensor]:
            return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)

        def get_seq_length(self, layer_idx: int = 0, *arguments: Any) -> int:
            return keys.shape[2]

    return ReadingCache()
