"""Wires heads and MLPs into the weights of a GPT-2.

Every feature is a row of a random orthonormal basis of the residual stream without its mean. The
norms' epsilon is 1e12 and their weight 1e6, so that a LayerNorm gives x - mean(x), which is x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

Rows = Float[Tensor, "row d_model"]
Attends = tuple[Rows, Rows, float]
"""Rows that the query reads, rows that the key reads, and the score where both are 1."""
Moves = tuple[Rows, Rows]
"""Rows that the value reads, and rows that are written for them."""

D_MODEL, N_HEADS, D_HEAD, D_MLP, N_POSITIONS = 160, 5, 32, 128, 16
STEEP = 20.0
"""A unit of an MLP switches within 1 / STEEP: GELU is then a threshold."""


class Wiring:
    """A GPT-2 whose weights are 0 but for what was wired in, in float64.

    Attributes:
        model: the model.
        generator: of everything that is drawn.
    """

    def __init__(self, n_layers: int, n_tokens: int, generator: torch.Generator) -> None:
        settings: dict[str, Any] = {
            "vocab_size": n_tokens,
            "n_embd": D_MODEL,
            "n_head": N_HEADS,
            "n_layer": n_layers,
            "n_inner": D_MLP,
            "n_positions": N_POSITIONS,
            "layer_norm_epsilon": 1e12,
            "tie_word_embeddings": False,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
            "architectures": ["GPT2LMHeadModel"],
            "attn_implementation": "eager",
        }
        config = GPT2Config(**settings)
        with torch.random.fork_rng(devices=[]):
            self.model = GPT2LMHeadModel(config).double().eval().requires_grad_(False)
        for name, parameter in self.model.named_parameters():
            is_norm = "ln_" in name and name.endswith("weight")
            parameter.fill_(1e6 if is_norm else 0.0)
        self.generator = generator
        start = torch.randn(D_MODEL, D_MODEL, generator=generator, dtype=torch.float64)
        start[:, 0] = 1.0
        self._basis = torch.linalg.qr(start)[0][:, 1:].T
        self._features: dict[str, Rows] = {}
        self._taken = 0
        self._heads = [
            torch.randperm(N_HEADS, generator=generator).tolist() for _ in range(n_layers)
        ]
        self._columns: dict[tuple[int, int], int] = {}
        self._units = [0] * n_layers

    def feature(self, name: str, size: int = 1) -> Rows:
        """Return the rows of a feature, (size, d_model); taken from the basis when first named."""
        if name not in self._features:
            self._features[name] = self._basis[self._taken : self._taken + size]
            self._taken += size
        return self._features[name]

    def embed(self, token: int, rows: Rows) -> None:
        """Add to a token's embedding."""
        self.model.transformer.wte.weight[token] += rows.sum(0)

    def embed_positions(self, rows: Rows) -> None:
        """Add a row to the embedding of every position, the first ones first."""
        self.model.transformer.wpe.weight[: len(rows)] += rows

    def unembed(self, token: int, rows: Rows) -> None:
        """Add to a token's logit what the final residual stream has along these rows."""
        self.model.lm_head.weight[token] += rows.sum(0)

    def head(self, layer: int, attends: Sequence[Attends], moves: Sequence[Moves]) -> int:
        """Wire one head that is still free in a layer; returns which."""
        head = int(self._heads[layer].pop())
        block = self.model.transformer.h[layer].attn
        at = head * D_HEAD
        for read, write in moves:
            columns = slice(at, at + len(read))
            block.c_attn.weight[:, 2 * D_MODEL :][:, columns] += read.T
            block.c_proj.weight[columns] += write
            at += len(read)
        for one in attends:
            self.attend(layer, head, *one)
        return head

    def attend(self, layer: int, head: int, query: Rows, key: Rows, score: float) -> None:
        """Let a head attend more (by `score` where query and key are 1) from query to key."""
        used = self._columns.get((layer, head), 0)
        assert used + len(query) <= D_HEAD, "the head has no room for another score"
        at = head * D_HEAD + used
        scale = math.sqrt(abs(score) * math.sqrt(D_HEAD))
        weight = self.model.transformer.h[layer].attn.c_attn.weight
        weight[:, at : at + len(query)] += scale * query.T
        keys = weight[:, D_MODEL + at : D_MODEL + at + len(key)]
        keys += math.copysign(scale, score) * key.T
        self._columns[layer, head] = used + len(query)

    def mlp(self, layer: int, reads: Rows, writes: Rows, threshold: float = 0.5) -> None:
        """Wire units of an MLP.

        A unit writes nothing where what it reads is clearly less than `threshold`, and its row of
        `writes` once where it is 0.5 more.
        """
        block, first = self.model.transformer.h[layer].mlp, self._units[layer]
        assert first + len(reads) <= D_MLP, "the MLP has no units left"
        units = slice(first, first + len(reads))
        block.c_fc.weight[:, units] += STEEP * reads.T
        block.c_fc.bias[units] -= STEEP * threshold
        block.c_proj.weight[units] += writes / (0.5 * STEEP)
        self._units[layer] += len(reads)
