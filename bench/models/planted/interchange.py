"""Runs a GPT-2 with activations of other prompts in the place of its own, with gradients.

An interchange (Geiger et al. 2022, "Inducing causal structure for interpretable neural networks")
is one run of a prompt in which some points have what they have in the run of another prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Point = tuple[str, int, int | None, int]
"""Site ("attn_out", "mlp_out", "z", "resid_post"), layer, head of "z", position."""
Where = tuple[str, int]
"""Site and layer."""
Seen = dict[Where, Float[Tensor, "prompt position width"]]
Logits = Float[Tensor, "prompt vocabulary"]


def interchanged(
    model: Any,
    tokens: Int[Tensor, "prompt position"],
    points: Sequence[Sequence[Point]] = (),
    sources: Int[Tensor, " prompt"] | None = None,
    given: Mapping[Where, Tensor] | None = None,
) -> tuple[Logits, Seen]:
    """Run prompts, each with its own points interchanged.

    Args:
        model: a Hugging Face GPT-2.
        tokens: the prompts.
        points: of every prompt those that are replaced; none at all by default.
        sources: of every prompt the row of `given` that its points are taken from.
        given: activations of another run of the same model, as this function returns them.

    Returns:
        Logits at the last position, less their mean over the vocabulary, and what every site of
        every layer gave.
    """
    entries: dict[Where, list[tuple[int, int, int]]] = {}
    for row, chosen in enumerate(points):
        for site, layer, head, position in chosen:
            entries.setdefault((site, layer), []).append((row, position, head or 0))
    seen: Seen = {}

    def passed(where: Where, values: Tensor) -> Tensor:
        if where in entries and given is not None and sources is not None:
            row, position, head = torch.tensor(entries[where]).T
            heads = model.config.n_head if where[0] == "z" else 1
            parts, other = (
                one.reshape(*one.shape[:-1], heads, -1) for one in (values.clone(), given[where])
            )
            parts[row, position, head] = other[sources[row], position, head]
            values = parts.flatten(-2)
        seen[where] = values
        return values

    handles = [_hook(module, where, passed) for where, module in _modules(model)]
    try:
        logits = model(tokens, use_cache=False).logits[:, -1]
    finally:
        for handle in handles:
            handle.remove()
    return logits - logits.mean(dim=-1, keepdim=True), seen


def _modules(model: Any) -> Iterator[tuple[Where, Any]]:
    for layer, block in enumerate(model.transformer.h):
        yield ("attn_out", layer), block.attn
        yield ("mlp_out", layer), block.mlp
        yield ("z", layer), block.attn.c_proj
        yield ("resid_post", layer), block


def _hook(module: Any, where: Where, passed: Any) -> Any:
    def before(_: Any, given: Any) -> Any:
        return (passed(where, given[0]), *given[1:])

    def after(_: Any, __: Any, made: Any) -> Any:
        if isinstance(made, tuple):
            return (passed(where, made[0]), *made[1:])
        return passed(where, made)

    if where[0] == "z":
        return module.register_forward_pre_hook(before)
    return module.register_forward_hook(after)


def all_points(config: Any, positions: Sequence[int]) -> list[Point]:
    """Every point of a GPT-2 at these positions; the last layer's stream, the end, is left out."""
    layers, heads = range(config.n_layer), range(config.n_head)
    return [
        *(("z", n, head, at) for n in layers for head in heads for at in positions),
        *(
            (site, n, None, at)
            for site in ("attn_out", "mlp_out")
            for n in layers
            for at in positions
        ),
        *(("resid_post", n, None, at) for n in layers[:-1] for at in positions),
    ]
