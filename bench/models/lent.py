"""A model of somebody else's, behind a TransformerBridge for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.models.bridge import boot_bridge
from bench.models.quiet import first_line, quiet_transformers
from bench.models.tiny import tiny_tokenizer
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

OWN_PARTS = ("_modules", "_parameters", "_buffers")
"""What a bridge changes of a Hugging Face model's modules."""


@contextmanager
def bridge_around(model: Any) -> Iterator[TransformerBridge]:
    """A TransformerBridge itself, or one around a Hugging Face causal LM.

    A Hugging Face model is itself again when the block ends. Within it attention is eager, which
    the bridge's hooks need.

    Raises:
        UserInputError: for anything else, and for a model that TransformerLens cannot read.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if isinstance(model, TransformerBridge):
        yield model
        return
    _require_causal(model)
    modules = {
        module: [dict(getattr(module, part)) for part in OWN_PARTS] for module in model.modules()
    }
    frozen = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    attention, training = model.config._attn_implementation, model.training
    try:
        yield _booted(model)
    finally:
        for module, parts in modules.items():
            for part, content in zip(OWN_PARTS, parts, strict=True):
                getattr(module, part).clear()
                getattr(module, part).update(content)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(frozen[name])
        model.set_attn_implementation(attention)
        model.train(training)


def _require_causal(model: Any) -> None:
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
    from transformers import PreTrainedModel

    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise UserInputError(
            f"What is steered is a TransformerBridge or a Hugging Face causal LM, and this is "
            f"{name}."
        )
    if model.config.is_encoder_decoder or model.get_output_embeddings() is None:
        raise UserInputError(
            f"{name} gives no logits of a next token: steering needs a causal LM, as "
            "AutoModelForCausalLM.from_pretrained gives it."
        )
    if any(isinstance(module, GeneralizedComponent) for module in model.modules()):
        raise UserInputError(
            f"There is a bridge around this {name} already: steer the bridge itself, on which "
            "blocks can be nested."
        )


def _booted(model: PreTrainedModel) -> TransformerBridge:
    name = type(model).__name__
    try:
        model.set_attn_implementation("eager")
        with quiet_transformers():
            return boot_bridge(model, tiny_tokenizer(), name)
    except Exception as error:
        raise UserInputError(
            f"TransformerLens cannot read {name}: {type(error).__name__}: {first_line(error)}"
        ) from error
