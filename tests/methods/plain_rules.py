"""A Hugging Face Llama whose modules are written anew with the derivatives of the papers' rules."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.llama import modeling_llama


class Softened(torch.autograd.Function):
    """A softmax with the derivative of one at temperature 2."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(torch.softmax(scores / 2, dim=-1))
        return torch.softmax(scores, dim=-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (p,) = ctx.saved_tensors
        return p * (gradient - (gradient * p).sum(dim=-1, keepdim=True))


def part(x: Tensor, share: float) -> Tensor:
    return share * x + ((1 - share) * x).detach()


@contextmanager
def rewritten(name: str) -> Iterator[None]:
    """RelP, AttnLRP, CP-LRP or GIM in every Llama that runs in the block."""
    lrp = name in ("attn_lrp", "gim")

    def norm(self: Any, x: Tensor) -> Tensor:
        scale = x.square().mean(dim=-1, keepdim=True).add(self.variance_epsilon).sqrt().detach()
        return self.weight * x / scale

    def mlp(self: Any, x: Tensor) -> Tensor:
        g = self.gate_proj(x)
        f = torch.nn.functional.silu(g)
        if name != "gim":
            f = g * (f / g).detach()
        if name == "cp_lrp":
            return self.down_proj(f.detach() * self.up_proj(x))
        return self.down_proj(part(f * self.up_proj(x), 0.5))

    def attention(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **_: Any) -> Any:
        k, v = (modeling_llama.repeat_kv(of, module.num_key_value_groups) for of in (k, v))
        if lrp:
            q, k = part(q, 0.25), part(k, 0.25)
        elif name == "cp_lrp":
            q, k = q.detach(), k.detach()
        scores = q @ k.mT * module.scaling + torch.full((q.shape[2], q.shape[2]), -1e9).triu(1)
        pattern = Softened.apply(scores) if name == "gim" else torch.softmax(scores, dim=-1)
        if lrp:  # half to the pattern is in the quarter of q and k; half to the values
            v = part(v, 0.5)
        return (pattern @ v).transpose(1, 2).contiguous(), pattern

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(modeling_llama.LlamaRMSNorm, "forward", norm)
        patched.setattr(modeling_llama.LlamaMLP, "forward", mlp)
        patched.setattr(modeling_llama, "eager_attention_forward", attention)
        yield
