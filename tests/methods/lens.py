"""Runs by TransformerLens's own functions and Hugging Face's modules, past the SubjectModel."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from methods.core.points import HEAD_SITES, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel


def metric_of(some: Prompts) -> Callable[[Tensor], Tensor]:
    """The logit difference as TransformerLens takes it: of the logits of all positions."""
    rows = torch.arange(len(some))

    def metric(logits: Tensor) -> Tensor:
        last = logits[:, -1].float()
        return last[rows, some.answers] - last[rows, some.foils]

    return metric


def full_logits(model: SubjectModel, tokens: Tensor, hooks: Iterable[tuple[str, Any]] = ()) -> Any:
    """Logits of all positions by TransformerLens's own `run_with_hooks`, past the SubjectModel."""
    with torch.no_grad():
        return model.bridge.run_with_hooks(tokens, fwd_hooks=list(hooks))


def cache_of(model: SubjectModel, tokens: Tensor) -> Any:
    """Every activation by TransformerLens's own `run_with_cache`."""
    with torch.no_grad():
        return model.bridge.run_with_cache(tokens)[1]


def activation(cache: Any, site: Site, layer: int) -> Tensor:
    """A site's activation from TransformerLens's cache; resid_mid as the sum that it is."""
    name = f"blocks.{layer}.hook_"
    if site is Site.RESID_MID:
        found: Tensor = cache[name + "resid_pre"] + cache[name + "attn_out"]
    elif site in HEAD_SITES:
        name = f"blocks.{layer}.attn.hook_{'z' if site is Site.O else site}"
        normed = name + "_normed"  # behind a norm of queries or keys, where heads come first
        found = cache[normed].transpose(1, 2) if normed in cache else cache[name]
    else:
        found = cache[name + site.value]
    return found


def norm_and_unembedding(model: SubjectModel) -> tuple[Any, Any]:
    """The last two modules of the Hugging Face model."""
    inner = model.bridge.original_model
    names = (".ln_f", ".norm", ".final_layer_norm")
    norm = next(module for name, module in inner.named_modules() if name.endswith(names))
    return norm, inner.get_output_embeddings()


def difference_of(some: Prompts, logits: Tensor) -> Tensor:
    """(prompt, position): answer minus foil of logits at every position."""
    rows = torch.arange(len(some))
    return logits[rows, :, some.answers] - logits[rows, :, some.foils]


def runs_of(some: Prompts, direction: str) -> tuple[Tensor, Tensor, int]:
    """Receiver, donor, and the sign of what a patch takes away."""
    if direction == "noising":
        return some.tokens, some.corrupted, 1
    return some.corrupted, some.tokens, -1
