"""Hooks: how an edit reaches the activations of a layer, and the two edits that only look."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.points import Site

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookPoint

HookFunction = Callable[..., Tensor | None]

SiteLayer = tuple[Site, int]
"""(site, layer): the activation of all positions that one hook sees."""

Activations = dict[SiteLayer, Float[Tensor, "prompt position *head width"]]


class Edit(Protocol):
    """What may be done to activations during a forward: see `methods.core.intervention`."""

    @property
    def points(self) -> Collection[SiteLayer]:
        """The points at which the edit wants to be called."""

    def __call__(
        self, site: Site, layer: int, h: Float[Tensor, "row position *head width"]
    ) -> Float[Tensor, "row position *head width"]:
        """The activation that takes the place of `h`; `h` itself leaves the run bit-identical.

        Head-level sites come with an axis of heads and width d_head (at o, what is edited is z),
        the others without and with width d_model.
        """


def layer_hooks(
    edit: Edit, layer: int, names: Collection[str]
) -> Iterator[tuple[str, HookFunction]]:
    """Hook names and functions of one layer.

    Queries and keys are edited behind their norm, where the model has one among its hooks' `names`:
    before it a scalar would do nothing. Their axes are (row, head, position, width) there.

    The bridge's `hook_resid_mid` sees only the input of the second norm, not the residual
    stream itself, so an edit of `resid_mid` is made where the stream is written: at what the
    attention adds to it (resid_mid = resid_pre + attn_out).
    """
    wanted = {site for site, at in edit.points if at == layer}
    resid_pre: list[Tensor] = []

    def before_output(h: Tensor, hook: Any) -> Tensor:
        for site in (Site.Z, Site.O):
            h = edit(site, layer, h) if site in wanted else h
        return h

    def keep_resid_pre(h: Tensor, hook: Any) -> None:
        resid_pre[:] = [h]

    def after_attention(h: Tensor, hook: Any) -> Tensor:
        if Site.ATTN_OUT in wanted:
            h = edit(Site.ATTN_OUT, layer, h)
        if Site.RESID_MID in wanted:
            before = resid_pre.pop()
            resid_mid = before + h
            edited = edit(Site.RESID_MID, layer, resid_mid)
            # What is added to `before` gives `edited` (a stream set to 0 is 0, not a rounding
            # error that the next norm magnifies), and is `h` to the bit where nothing changed.
            h = torch.where(edited == resid_mid, h + (edited - resid_mid), edited - before)
        return h

    for site in wanted & {Site.Q, Site.K}:
        normed = f"blocks.{layer}.attn.hook_{site}_normed"
        if normed in names:
            yield (
                normed,
                lambda h, hook, site=site: edit(site, layer, h.transpose(1, 2)).transpose(1, 2),
            )
        else:
            yield (
                f"blocks.{layer}.attn.hook_{site}",
                lambda h, hook, site=site: edit(site, layer, h),
            )
    if Site.V in wanted:
        yield f"blocks.{layer}.attn.hook_v", lambda h, hook: edit(Site.V, layer, h)
    if wanted & {Site.Z, Site.O}:
        yield f"blocks.{layer}.attn.hook_z", before_output
    if Site.RESID_MID in wanted:
        yield f"blocks.{layer}.hook_resid_pre", keep_resid_pre
    if wanted & {Site.ATTN_OUT, Site.RESID_MID}:
        yield f"blocks.{layer}.hook_attn_out", after_attention
    for site in wanted & {Site.MLP_OUT, Site.RESID_POST}:
        yield (
            f"blocks.{layer}.hook_{site}",
            lambda h, hook, site=site: edit(site, layer, h),
        )


@contextmanager
def attached(
    points: Mapping[str, HookPoint], hooks: Iterable[tuple[str, HookFunction]]
) -> Iterator[None]:
    """Hooks for the block, and exactly these removed at its end.

    The bridge's own `hooks` works out all its aliases anew whenever it is entered, which takes
    longer than a layer.
    """
    added = []
    try:
        for name, function in hooks:
            added.append((points[name], points[name].add_hook(function)))
        yield
    finally:
        for point, handle in added:
            handle.hook.remove()
            point.fwd_hooks = [one for one in point.fwd_hooks if one is not handle]


def in_full(function: HookFunction, device: torch.device) -> HookFunction:
    """An edit that is worked out in its own precision, whatever the forward around it has."""

    def edit(h: Tensor, hook: Any) -> Tensor | None:
        with torch.autocast(device.type, enabled=False):
            return function(h, hook)

    return edit


class Recorder:
    """An edit that changes nothing and keeps what it sees."""

    def __init__(self, points: Collection[SiteLayer]) -> None:
        self.points = points
        self.seen: dict[SiteLayer, Tensor] = {}

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        self.seen[site, layer] = h.detach()
        return h


class GradientTaps:
    """Adds a zero to every activation, whose gradient is that of the activation.

    Args:
        points: where.
        edit: what is done to activations first: `seen` are those before it, and gradients are those
            behind it.
    """

    def __init__(self, points: Collection[SiteLayer], edit: Edit | None = None) -> None:
        self.points = points
        self.edit = edit
        self.seen: dict[SiteLayer, Tensor] = {}
        self.offsets: dict[SiteLayer, Tensor] = {}

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        self.seen[site, layer] = h.detach()
        if self.edit is not None and (site, layer) in self.edit.points:
            h = self.edit(site, layer, h)
        self.offsets[site, layer] = torch.zeros_like(h, requires_grad=True)
        return h + self.offsets[site, layer]

    def gradients(self, output: Float[Tensor, ""]) -> Activations:
        """Those of `output`, by a backward; 0 where it does not depend on the activation."""
        found = torch.autograd.grad(
            output, list(self.offsets.values()), allow_unused=True, materialize_grads=True
        )
        return dict(zip(self.offsets, found, strict=True))
