"""Exact effects of a planted model's points by plain hooks in float64; nothing of the suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Point = tuple[str, int, int | None, int]
"""Site ("attn_out", "mlp_out", "z", "resid_post"), layer, head, position."""


class Loop:
    """A model, clean and corrupted prompts, and what every module gave on both."""

    def __init__(
        self, model: Any, clean: Tensor, corrupted: Tensor, answers: Tensor, foils: Tensor
    ) -> None:
        self.model, self.clean, self.answers, self.foils = model, clean, answers, foils
        self.corrupted = corrupted
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
        return self.ld_clean - self._patched(self.clean, points, self.on_corrupted)

    def denoising(self, *points: Point) -> Tensor:
        """LD(corrupted with these clean activations) - LD(corrupted), a prompt."""
        return self._patched(self.corrupted, points, self.on_clean) - self.ld_corrupted

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
        rows = torch.arange(len(tokens))
        logits = self.model(tokens).logits[:, -1]
        return logits[rows, self.answers] - logits[rows, self.foils]

    def _record(self, tokens: Tensor) -> tuple[dict[tuple[str, int], Tensor], Tensor]:
        stored: dict[tuple[str, int], Tensor] = {}

        def keep(site: str, layer: int) -> Any:
            def before(_: Any, given: Any) -> None:
                stored[site, layer] = given[0].clone()

            def after(_: Any, __: Any, made: Any) -> None:
                stored[site, layer] = (made[0] if isinstance(made, tuple) else made).clone()

            module = self._module(site, layer)
            if site == "z":
                return module.register_forward_pre_hook(before)
            return module.register_forward_hook(after)

        sites = ("attn_out", "mlp_out", "z", "resid_post")
        handles = [keep(s, layer) for s in sites for layer in range(self.model.config.n_layer)]
        try:
            return stored, self._ld(tokens)
        finally:
            for handle in handles:
                handle.remove()

    def _patched(
        self, tokens: Tensor, points: Iterable[Point], source: Mapping[tuple[str, int], Tensor]
    ) -> Tensor:
        with torch.no_grad(), self._hooks(points, source):
            return self._ld(tokens)

    @contextmanager
    def _hooks(
        self, points: Iterable[Point], source: Mapping[tuple[str, int], Tensor]
    ) -> Iterator[None]:
        handles = []
        for site, layer, head, position in points:
            width = self.model.config.n_embd // self.model.config.n_head
            columns = slice(None) if head is None else slice(head * width, (head + 1) * width)
            new = source[site, layer][:, position, columns]

            def put(
                stream: Tensor, at: int = position, on: slice = columns, to: Tensor = new
            ) -> Tensor:
                stream = stream.clone()
                stream[:, at, on] = to
                return stream

            def before(_: Any, given: Any, put: Any = put) -> Any:
                return (put(given[0]), *given[1:])

            def after(_: Any, __: Any, made: Any, put: Any = put) -> Any:
                return (put(made[0]), *made[1:]) if isinstance(made, tuple) else put(made)

            module = self._module(site, layer)
            handles.append(
                module.register_forward_pre_hook(before)
                if site == "z"
                else module.register_forward_hook(after)
            )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
