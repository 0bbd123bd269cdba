"""The same interventions on the plain Hugging Face model: hooks on its own modules, no bridge.

Which module gives or takes a site's activation is not read from anybody's table. The activation
that the suite sees is looked for, column by column, in what every module of the layer takes and
gives; what is patched is then that module of a model that was never wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]
SAME = 2e-5


class Axes(Enum):
    """How an activation of some rows and positions stands in a tensor."""

    PLAIN = "(row, position, ...)"
    HEADS_FIRST = "(row, head, position, width)"
    IN_A_ROW = "(row times position, width)"

    @staticmethod
    def of(value: object, rows: int, positions: int) -> Axes | None:
        """Those of a module's input or output; None where it is no activation of all tokens."""
        if not isinstance(value, Tensor):
            return None
        shape = tuple(value.shape)
        if len(shape) >= 3 and shape[:2] == (rows, positions):
            return Axes.PLAIN
        if len(shape) == 4 and (shape[0], shape[2]) == (rows, positions):
            return Axes.HEADS_FIRST
        return Axes.IN_A_ROW if len(shape) == 2 and shape[0] == rows * positions else None

    def flat(self, value: Tensor, rows: int) -> Tensor:
        """A tensor as (row, position, column)."""
        if self is Axes.IN_A_ROW:
            return value.view(rows, -1, value.shape[-1])
        return (value.transpose(1, 2) if self is Axes.HEADS_FIRST else value).flatten(2)

    def put(self, flat: Tensor, value: Tensor) -> Tensor:
        """The same the other way round, in the shape of `value`."""
        if self is Axes.HEADS_FIRST:
            rows, heads, positions, width = value.shape
            return flat.view(rows, positions, heads, width).transpose(1, 2)
        return flat.view(value.shape)


@dataclass(frozen=True, eq=False)
class Spot:
    """Where an activation is in the plain model.

    Attributes:
        module: the module that takes or gives it.
        given: in its output, else in its input.
        columns: of the flattened last axes, in the order of the activation's own.
        factor: the activation is so many times what stands there.
        axes: how it stands there.
    """

    module: nn.Module
    given: bool
    columns: Tensor
    factor: float = 1.0
    axes: Axes = Axes.PLAIN


class PlainModel:
    """A Hugging Face model, its layers, and forwards with changes at some spots."""

    def __init__(self, model: Any, n_layers: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.axes: dict[tuple[nn.Module, bool], Axes] = {}
        self.layers = next(
            module
            for module in model.modules()
            if isinstance(module, nn.ModuleList) and len(module) == n_layers
        )

    def logits(self, tokens: Tensor, changes: Mapping[Spot, Change] | None = None) -> Tensor:
        """Logits of the last position; a change is given the activation at its spot, flat."""
        with _changed(changes or {}, len(tokens)):
            found: Tensor = self.model(tokens, use_cache=False).logits[:, -1].float()
        return found

    def seen(self, tokens: Tensor) -> dict[tuple[nn.Module, bool], Tensor]:
        """What every module of every layer takes and gives, as (row, position, column)."""
        seen: dict[tuple[nn.Module, bool], Tensor] = {}
        rows, positions = tokens.shape

        def note(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
            taken = arguments[0] if arguments else keywords.get("hidden_states")
            for given, value in ((True, output), (False, taken)):
                value = _first(value)
                axes = Axes.of(value, rows, positions)
                if axes is not None:
                    # A copy: Falcon adds to what a module gave, in place.
                    seen[module, given] = axes.flat(value.detach().clone(), rows)
                    self.axes[module, given] = axes

        modules = [module for layer in self.layers for module in layer.modules()]
        handles = [m.register_forward_hook(note, with_kwargs=True) for m in modules]
        try:
            with torch.no_grad():
                self.model(tokens, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return seen

    def spot(
        self, seen: dict[tuple[nn.Module, bool], Tensor], layer: int, h: Tensor
    ) -> Spot | None:
        """Where an activation (row, position, ...) of a layer is; None if nowhere."""
        flat = h.flatten(2)
        found = None
        for (module, given), value in seen.items():
            if module not in set(self.layers[layer].modules()) or value.shape[2] < flat.shape[2]:
                continue
            distances = torch.cdist(flat.flatten(0, 1).T, value.flatten(0, 1).T, p=float("inf"))
            nearest, columns = distances.min(dim=1)
            if float(nearest.max()) < SAME * float(flat.abs().max()):
                if found is None or given:
                    found = Spot(module, given, columns, axes=self.axes[module, given])
            elif value.shape == flat.shape and found is None:
                factor = float((flat * value).sum() / value.square().sum().clamp_min(1e-30))
                if float((factor * value - flat).abs().max()) < SAME * float(flat.abs().max()):
                    columns = torch.arange(flat.shape[2])
                    found = Spot(module, given, columns, factor, self.axes[module, given])
        return found


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) and value else value


@contextmanager
def _changed(changes: Mapping[Spot, Change], rows: int) -> Iterator[None]:
    handles = []
    for spot, change in changes.items():

        def edited(value: Tensor, spot: Spot = spot, change: Change = change) -> Tensor:
            flat = spot.axes.flat(value, rows)
            h = change(flat[:, :, spot.columns] * spot.factor) / spot.factor
            return spot.axes.put(flat.index_copy(2, spot.columns, h), value)

        def after(m: Any, arguments: Any, output: Any, edited: Any = edited) -> Any:
            if isinstance(output, tuple):
                return (edited(output[0]), *output[1:])
            return edited(output)

        def before(m: Any, arguments: Any, keywords: Any, edited: Any = edited) -> Any:
            if arguments:
                return (edited(arguments[0]), *arguments[1:]), keywords
            return arguments, {**keywords, "hidden_states": edited(keywords["hidden_states"])}

        handles.append(
            spot.module.register_forward_hook(after)
            if spot.given
            else spot.module.register_forward_pre_hook(before, with_kwargs=True)
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
