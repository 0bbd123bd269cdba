"""Compares a model's logits before and after TransformerLens's bridge is put around it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.models.limits import limits_of
from tasks.errors import UserInputError, message_of

TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.05}
"""Difference that rounding explains, in standard deviations of the logits; else `COARSE`."""
COARSE = 0.25
N_POSITIONS = 6


class BridgeError(UserInputError):
    """A model cannot be run or wrapped, is not causal, or is another one once it is wrapped."""


def few_tokens(model: Any) -> Int[Tensor, "2 position"]:
    """Two short prompts of a Hugging Face model that differ in their last token alone."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    length = max(2, min(N_POSITIONS, limits_of(model.config).context or N_POSITIONS))
    tokens = (torch.arange(length).repeat(2, 1) * 7919 + 11) % vocabulary
    tokens[1, -1] = (tokens[1, -1] + 1) % vocabulary
    return tokens.to(model.device)


@torch.no_grad()
def plain_logits(model: Any, label: str) -> Float[Tensor, "2 position vocab"]:
    """Logits of `few_tokens` by the Hugging Face model itself, in eval mode, before it is wrapped.

    Raises:
        BridgeError: if transformers itself cannot run it, or a later token changes the logits of an
            earlier one: every method takes for granted that it does not.
    """
    try:
        logits: Tensor = model.eval()(few_tokens(model), use_cache=False).logits.detach().float()
    except Exception as error:
        raise BridgeError(
            f'Model "{label}": transformers {version("transformers")} itself cannot run this '
            f"{type(model).__name__} ({_in_a_line(error)}). Its config.json may not fit its class."
        ) from error
    ahead = _difference(logits[0, :-1], logits[1, :-1])
    if ahead > _tolerance(model):
        raise BridgeError(
            f'Model "{label}": in {type(model).__name__} tokens see later ones (its logits change '
            f"by {ahead:.2g} standard deviations with a token that comes after). The suite needs a "
            "causal language model; where config.json has `is_decoder`, that has to be true."
        )
    return logits


@torch.no_grad()
def beyond_rounding(model: Any, expected: Float[Tensor, "2 position vocab"]) -> float:
    """By how many standard deviations logits are not those of before; 0 where rounding says it."""
    difference = _difference(model(few_tokens(model), use_cache=False).logits.float(), expected)
    return difference if difference > _tolerance(model) else 0.0


@torch.no_grad()
def check_same_logits(bridge: Any, expected: Float[Tensor, "2 position vocab"], label: str) -> None:
    """Raises BridgeError where the bridge around a model gives other logits than the model did.

    Args:
        bridge: the TransformerBridge.
        expected: what `plain_logits` gave of the model in it.
        label: a name for messages.
    """
    model = bridge.original_model
    if not hasattr(bridge, "blocks"):
        raise BridgeError(
            f'Model "{label}": {_library()} gives {type(model).__name__} no stack of '
            "layers, which every site here is a place in."
        )
    try:
        found = bridge(few_tokens(model), use_cache=False).float()
    except Exception as error:
        raise cannot_wrap(model, label, error) from error
    difference = _difference(found, expected)
    if difference > _tolerance(model):
        raise BridgeError(
            f'Model "{label}": {_library()} makes another model of {type(model).__name__}: logits '
            f"of a few tokens differ from transformers' own by up to {difference:.2g} standard "
            f"deviations, so every score would be of another model. {_ADVICE}"
        )


def cannot_wrap(model: Any, label: str, error: Exception) -> BridgeError:
    """The failure to state where TransformerLens raises something of its own."""
    return BridgeError(
        f'Model "{label}": {_library()} cannot be put around {type(model).__name__} '
        f"({_in_a_line(error)}). {_ADVICE}"
    )


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {message_of(error).splitlines()[0][:300]}"


_ADVICE = (
    "That is to be mended there: a later release may have done so "
    "(pip install -U transformer-lens), and its authors want to know of it "
    "(github.com/TransformerLensOrg/TransformerLens/issues)."
)


def _library() -> str:
    return f"TransformerLens {version('transformer-lens')}"


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest one in standard deviations; 0 for logits that are no numbers.

    A model with NaN in its weights is named where it is run.
    """
    if not bool(torch.isfinite(expected).all()):
        return 0.0
    return float((found - expected).abs().max() / expected.std().clamp_min(1e-30))


def _tolerance(model: Any) -> float:
    return TOLERANCES.get(model.dtype, COARSE)
