"""Exact effects of a planted model's points by plain hooks in float64; nothing of the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

AT_ONCE = 40
"""Sets of points a forward."""
Point = tuple[str, int, int | None, int]
"""Site ("attn_out", "mlp_out", "z", "resid_post"), layer, head, position."""


class Loop:
    """A model, clean and corrupted prompts, and what every module gave on both."""

    def __init__(
        self, model: Any, clean: Tensor, corrupted: Tensor, answers: Tensor, foils: Tensor
    ) -> None:
        self.model, self.clean, self.answers, self.foils = model, clean, answers, foils
        self.corrupted = corrupted
        self._noised: dict[tuple[Point, ...], Tensor] = {}
        with torch.no_grad():
            self.on_clean, self.ld_clean = self._record(clean)
            self.on_corrupted, self.ld_corrupted = self._record(corrupted)

    def points(self, sites: Iterable[str]) -> Iterator[Point]:
        """Every point of sites of full width but those at the BOS."""
        for site in sites:
            for layer in range(self.model.config.n_layer):
                for position in range(1, self.clean.shape[1]):
                    yield site, layer, None, position

    def difference(self, point: Point) -> float:
        """The mean norm of the activation's difference."""
        part = self._of(self.on_clean, point) - self._of(self.on_corrupted, point)
        return float(part.norm(dim=-1).mean())

    def variance(self, point: Point) -> float:
        """Over the clean prompts, summed over the activation's entries."""
        return float(self._of(self.on_clean, point).var(dim=0).sum())

    def noising(self, *points: Point) -> Tensor:
        """LD(clean) - LD(clean with these activations of the corrupted run), a prompt."""
        self.run_noising([points])
        return self.ld_clean - self._noised[points]

    def run_noising(self, together: Iterable[tuple[Point, ...]]) -> None:
        """Many at once, as rows of few forwards, for those that ask for them later."""
        new = [points for points in dict.fromkeys(together) if points not in self._noised]
        for at in range(0, len(new), AT_ONCE):
            some = new[at : at + AT_ONCE]
            ld = self._patched(self.clean, some, self.on_corrupted)
            self._noised.update(zip(some, ld.view(len(some), -1), strict=True))

    def denoising(self, *points: Point) -> Tensor:
        """LD(corrupted with these clean activations) - LD(corrupted), a prompt."""
        return self._patched(self.corrupted, [points], self.on_clean) - self.ld_corrupted

    def _of(self, stored: Mapping[tuple[str, int], Tensor], point: Point) -> Tensor:
        site, layer, head, position = point
        part = stored[site, layer][:, position]
        width = part.shape[-1] // self.model.config.n_head
        return part if head is None else part[:, head * width : (head + 1) * width]

    def _module(self, site: str, layer: int) -> Any:
        block = self.model.transformer.h[layer]
        return {
            "attn_out": block.attn, "mlp_out": block.mlp, "z": block.attn.c_proj,
            "resid_post": block,
        }[site]  # fmt: skip

    def _ld(self, tokens: Tensor) -> Tensor:
        logits = self.model(tokens).logits[:, -1]
        times = len(tokens) // len(self.answers)
        answers, foils = (of.repeat(times)[:, None] for of in (self.answers, self.foils))
        return (logits.gather(1, answers) - logits.gather(1, foils))[:, 0]

    def _record(self, tokens: Tensor) -> tuple[dict[tuple[str, int], Tensor], Tensor]:
        stored: dict[tuple[str, int], Tensor] = {}

        def keep(site: str, layer: int) -> Any:
            def see(stream: Tensor) -> Tensor:
                stored[site, layer] = stream.clone()
                return stream

            return self._hook(site, layer, see)

        with ExitStack() as hooks:
            for site in ("attn_out", "mlp_out", "z", "resid_post"):
                for layer in range(self.model.config.n_layer):
                    hooks.enter_context(keep(site, layer))
            return stored, self._ld(tokens)

    def _patched(
        self,
        tokens: Tensor,
        sets: Sequence[tuple[Point, ...]],
        source: Mapping[tuple[str, int], Tensor],
    ) -> Tensor:
        """Every set of points changes rows of its own."""

        def put(rows: slice, site: str, layer: int, head: int | None, position: int) -> Any:
            width = self.model.config.n_embd // self.model.config.n_head
            columns = slice(None) if head is None else slice(head * width, (head + 1) * width)

            def to(stream: Tensor) -> Tensor:
                stream[rows, position, columns] = source[site, layer][:, position, columns]
                return stream

            return self._hook(site, layer, to)

        n = len(tokens)
        with torch.no_grad(), ExitStack() as hooks:
            for at, points in enumerate(sets):
                for point in points:
                    hooks.enter_context(put(slice(at * n, (at + 1) * n), *point))
            return self._ld(tokens.repeat(len(sets), 1))

    @contextmanager
    def _hook(self, site: str, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """What the module takes (z) or gives (all others) is changed within the block."""

        def before(_: Any, given: Any) -> Any:
            return (change(given[0]), *given[1:])

        def after(_: Any, __: Any, made: Any) -> Any:
            return (change(made[0]), *made[1:]) if isinstance(made, tuple) else change(made)

        module = self._module(site, layer)
        handle = (
            module.register_forward_pre_hook(before)
            if site == "z"
            else module.register_forward_hook(after)
        )
        try:
            yield
        finally:
            handle.remove()
