"""Where training of a planted model with ordinary norms begins: its weights in a narrower GPT-2.

What the planted model writes spans fewer directions than it has. They become orthogonal ones of the
narrow stream where it has room for all, and else overlap as evenly as can be. Every head keeps the
largest singular values of its scores and of what it moves. A norm's weight makes good for the
division by the stream's mean size, not for that of each position. A small random matrix is added to
every matrix.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from bench.models.planted.interchange import interchanged

D_MODEL, D_MLP = 100, 64
EPSILON = 1e-5
"""That of GPT-2's norms."""


def ordinary(config: GPT2Config, d_model: int = D_MODEL, d_mlp: int = D_MLP) -> GPT2LMHeadModel:
    """Return a GPT-2 with ordinary norms, else of a planted model's configuration, untrained."""
    config = copy.deepcopy(config)
    config.n_embd, config.n_inner, config.layer_norm_epsilon = d_model, d_mlp, EPSILON
    with torch.random.fork_rng(devices=[]):
        return GPT2LMHeadModel(config)


def narrowed(
    planted: Any, tokens: Tensor, generator: torch.Generator, d_model: int, d_mlp: int
) -> GPT2LMHeadModel:
    """Return the narrow model.

    Args:
        planted: a planted model in float64.
        tokens: prompts on which the sizes of the stream are measured, (prompt, position).
        generator: of the directions and of what is random in the weights.
        d_model: its width.
        d_mlp: units of every MLP; those that the planted model has beyond it are left out.
    """
    model: Any = ordinary(planted.config, d_model, d_mlp).double()
    old, new = planted.transformer, model.transformer
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.02 * noise if parameter.ndim > 1 else 0 * noise)
        put = _directions(planted, d_model, generator)
        new.wte.weight += old.wte.weight @ put
        new.wpe.weight += old.wpe.weight @ put
        model.lm_head.weight += planted.lm_head.weight @ put
        _, seen = interchanged(planted, tokens)
        stream = old.wte.weight[tokens] + old.wpe.weight[: tokens.shape[1]]
        for layer, (block, its) in enumerate(zip(new.h, old.h, strict=True)):
            block.ln_1.weight.fill_(_size(stream, d_model))
            block.ln_2.weight.fill_(_size(stream + seen["attn_out", layer], d_model))
            stream = seen["resid_post", layer]
            _narrow_attention(block.attn, its.attn, put, planted.config.n_head)
            units = its.mlp.c_fc.bias.nonzero()[:d_mlp, 0]
            block.mlp.c_fc.weight[:, : len(units)] += put.T @ its.mlp.c_fc.weight[:, units]
            block.mlp.c_fc.bias[: len(units)] += its.mlp.c_fc.bias[units]
            block.mlp.c_proj.weight[: len(units)] += its.mlp.c_proj.weight[units] @ put
        new.ln_f.weight.fill_(_size(stream, d_model))
    narrow: GPT2LMHeadModel = model.float()
    return narrow


def _directions(planted: Any, d_model: int, generator: torch.Generator) -> Tensor:
    """What a row that is written becomes, (planted width, d_model), orthogonal to the mean."""
    parts = planted.transformer
    written = [parts.wte.weight, parts.wpe.weight]
    for block in parts.h:
        written += [block.attn.c_proj.weight, block.mlp.c_proj.weight]
    rows = torch.cat(written)
    _, sizes, axes = torch.linalg.svd(rows - rows.mean(1, keepdim=True), full_matrices=False)
    axes = axes[: int((sizes > 1e-8 * sizes[0]).sum())]
    start = torch.randn(d_model, d_model, generator=generator, dtype=torch.float64)
    start[:, 0] = 1.0
    room: Tensor = torch.linalg.qr(start)[0][:, 1:].T
    if len(axes) <= len(room):
        return torch.matmul(axes.T, room[: len(axes)])
    mixed = torch.randn(len(axes), len(axes), generator=generator, dtype=torch.float64)
    frame = torch.linalg.qr(mixed)[0][:, : len(room)] * math.sqrt(len(axes) / len(room))
    return torch.matmul(axes.T @ frame, room)


def _size(stream: Float[Tensor, "prompt position width"], d_model: int) -> float:
    """The root mean square that the stream has in the narrow model, over all but the BOS."""
    centred = stream - stream.mean(dim=-1, keepdim=True)
    return float((centred[:, 1:].square().sum(-1).mean() / d_model).sqrt())


def _narrow_attention(new: Any, old: Any, put: Tensor, n_heads: int) -> None:
    (wide, d_model), d_head = put.shape, put.shape[1] // n_heads
    before = wide // n_heads
    queries, keys, values = old.c_attn.weight.split(wide, dim=1)
    for head in range(n_heads):
        its = slice(head * before, (head + 1) * before)
        at = slice(head * d_head, (head + 1) * d_head)
        query, key = _factors(queries[:, its] @ keys[:, its].T, d_head)
        gain = (d_head / before) ** 0.25  # scores are divided by the root of the head's width
        new.c_attn.weight[:, at] += gain * put.T @ query
        new.c_attn.weight[:, d_model:][:, at] += gain * put.T @ key
        value, write = _factors(values[:, its] @ old.c_proj.weight[its], d_head)
        new.c_attn.weight[:, 2 * d_model :][:, at] += put.T @ value
        new.c_proj.weight[at] += write.T @ put


def _factors(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two matrices of `rank` columns, the one times the other's transpose nearest to `product`."""
    left, sizes, right = torch.linalg.svd(product)
    root = sizes[:rank].sqrt()
    return left[:, :rank] * root, right[:rank].T * root
