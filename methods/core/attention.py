"""What a patched query or key does to the attention pattern, and what the pattern does to LD."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import Contrast
from methods.core.hooks import HookFunction, SiteLayer
from methods.core.points import Site
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

MOST = 80.0
"""Change of an attention score beyond which its exponential would not fit fp32."""

ByLayer = list[Float[Tensor, "prompt head query key"]]


class UnknownAttentionError(UserInputError):
    """What a layer's attention does cannot be seen."""


@contextmanager
def noted(subject: SubjectModel, *names: str) -> Iterator[dict[str, ByLayer]]:
    """What the attention of every layer does in the forwards of the block, to be read behind it.

    Args:
        subject: the model.
        names: `hook_attn_scores` (before the softmax, behind any soft cap) or `hook_pattern`.

    Raises:
        UnknownAttentionError: if a layer has no such hook, or it does not see one number a query
            and key.
    """
    parts: dict[str, list[list[Tensor]]] = {
        name: [[] for _ in range(subject.n_layers)] for name in names
    }

    def note(into: list[Tensor]) -> HookFunction:
        return lambda h, hook: into.append(h.detach())

    hooks = [
        (f"blocks.{layer}.attn.{name}", note(of_layer))
        for name, layers in parts.items()
        for layer, of_layer in enumerate(layers)
    ]
    for name, _ in hooks:
        if name not in subject.points_by_name:
            raise _unknown(subject, name)
    found: dict[str, ByLayer] = {}
    with subject.attached(hooks):
        yield found
    for name, layers in parts.items():
        for layer, seen in enumerate(layers):
            if not seen or any(h.dim() != 4 or h.shape[2] != h.shape[3] for h in seen):
                raise _unknown(subject, f"blocks.{layer}.attn.{name}")
        found[name] = [torch.cat(seen).float() for seen in layers]


def _unknown(subject: SubjectModel, name: str) -> UnknownAttentionError:
    return UnknownAttentionError(
        f"{subject.bridge.cfg.architecture} has no attention at {name} that could be read and "
        "changed there, one number a query and key, as this method needs."
    )


class _OneLayerAtATime:
    """Replaces one site in every layer, and holds what the attention adds, for layers to come."""

    def __init__(self, site: Site, donated: dict[SiteLayer, Tensor], held: dict[SiteLayer, Tensor]):
        self.replaced = {point: h for point, h in donated.items() if point[0] is site} | held
        self.points = list(self.replaced)
        self.rows = slice(None)

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        return self.replaced[site, layer][self.rows].to(h.dtype)


@torch.no_grad()
def patched_attention(
    subject: SubjectModel, contrast: Contrast, site: Site | None
) -> tuple[ByLayer, ByLayer]:
    """Attention scores (behind any soft cap) and pattern of the receiver, layer by layer.

    Args:
        subject: the model.
        contrast: what is patched.
        site: `q` or `k`, all of whose activations in a layer come from the donor, in each layer
            alone: the streams are those of the receiver. None: nothing is patched.

    Raises:
        UnknownAttentionError: if a layer's attention cannot be seen.
    """
    receiver = contrast.receiver
    tokens = receiver.prompts.tokens
    points = [(Site.ATTN_OUT, layer) for layer in range(subject.n_layers)]
    edit = None
    if site is not None:
        held = receiver.activations(subject, points)
        edit = _OneLayerAtATime(site, contrast.donated, held)
    with noted(subject, "hook_attn_scores", "hook_pattern") as seen:
        for rows in subject.chunks(len(tokens)):
            if edit is not None:
                edit.rows = rows
            noise = None if receiver.noise is None else receiver.noise[rows]
            subject.logits(tokens[rows], edit, noise)
    return seen["hook_attn_scores"], seen["hook_pattern"]


def pattern_gradients(subject: SubjectModel, contrast: Contrast) -> ByLayer:
    """dLD/d pattern of the receiver in every layer, from one forward and one backward.

    Raises:
        UnknownAttentionError: if a layer has no hook for it that the model heeds.
    """
    receiver, layers = contrast.receiver, range(subject.n_layers)
    parts: list[list[Tensor]] = [[] for _ in layers]
    offsets: dict[int, Tensor] = {}

    def tap(layer: int) -> HookFunction:
        def add(pattern: Tensor, hook: Any) -> Tensor:
            offsets[layer] = torch.zeros_like(pattern, requires_grad=True)
            return pattern + offsets[layer]

        return add

    hooks = [(f"blocks.{layer}.attn.hook_pattern", tap(layer)) for layer in layers]
    for name, _ in hooks:
        if name in subject.unheeded_hooks:
            raise _unknown(subject, name)
    with torch.inference_mode(False), torch.enable_grad(), subject.attached(hooks):
        for rows in subject.chunks(len(receiver.prompts)):
            chunk = receiver.prompts.take(rows)
            noise = None if receiver.noise is None else receiver.noise[rows].clone()
            ld = chunk.logit_difference(subject.logits(chunk.tokens, None, noise)).sum()
            found = torch.autograd.grad(
                ld, [offsets[at] for at in layers], allow_unused=True, materialize_grads=True
            )
            subject.passes.backward += len(chunk)
            for layer, gradient in zip(layers, found, strict=True):
                parts[layer].append(gradient.float())
    return [torch.cat(of) for of in parts]


def query_effect(pattern: Tensor, patched: Tensor, gradient: Tensor) -> Tensor:
    """(prompt, query, head): what a query's patch adds to LD by its own softmax."""
    return ((patched - pattern) * gradient).sum(dim=-1).transpose(1, 2)


def key_effect(
    pattern: Tensor, scores: Tensor, patched: Tensor, gradient: Tensor, n_kv_heads: int
) -> Tensor:
    """(prompt, key, key-value head): what a key's patch adds to LD by every query's softmax.

    With the key at t alone patched, the pattern of query q changes by c (onehot_t - pattern), where
    c = p expm1(d) / (1 + p expm1(d)), p the weight at t and d the change of its score.
    """
    change = torch.where(pattern > 0, patched - scores, 0).clamp(-MOST, MOST)
    grown = pattern * torch.expm1(change)
    share = grown / (1 + grown)
    centred = gradient - (pattern * gradient).sum(dim=-1, keepdim=True)
    by_head = (share * centred).sum(dim=2)
    n_prompts, n_heads, n_keys = by_head.shape
    groups = by_head.view(n_prompts, n_kv_heads, n_heads // n_kv_heads, n_keys)
    return groups.sum(dim=2).transpose(1, 2)
