"""Steers any model of the right shape with a fitted intervention, also from a file.

For example::

    from bench.steering import load_intervention, steered

    intervention = load_intervention("activ_scalar.safetensors")
    with steered(model, intervention, beta=1.5):
        model.generate(**tokenizer(prompt, return_tensors="pt"))

`model` is a TransformerBridge or a plain Hugging Face causal LM; it is left as it was found.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat

import torch
from torch import Tensor

from bench.models.bridge import boot_bridge, first_line, quiet_transformers
from bench.models.tiny import tiny_tokenizer
from bench.store.interventions import (
    UNKNOWN,
    intervention_of,
    load_intervention,
    save_intervention,
)
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hooks import HookFunction, layer_hooks
from methods.core.intervention import Intervention
from methods.core.points import HEAD_SITES, Heads, Site
from methods.core.steered_text import SteeredText
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

__all__ = ["intervention_of", "load_intervention", "save_intervention", "steered", "strength_of"]


@contextmanager
def steered(model: Any, intervention: Intervention, beta: SupportsFloat) -> Iterator[None]:
    """Has every forward of `model` in the block run under the intervention.

    A row is steered in a batch as it is steered alone, whatever padding its `attention_mask` says
    it has, on either side, and in `generate` with a cache or without.

    Args:
        model: a TransformerBridge, or a Hugging Face causal LM. Within the block only one thread
            may use it.
        intervention: what is done.
        beta: how strongly. 0 leaves every logit of a bridge as it is, to the bit, and of a Hugging
            Face model to rounding: in the block it runs through a bridge, with eager attention.

    Raises:
        UserInputError: for what is no model, intervention or finite number, for a model that
            TransformerLens cannot read, or whose layers, heads or sites are others than the
            intervention's; in a forward, for a prompt of the wrong length, and for a mask that does
            not say which tokens are padding.
    """
    if not isinstance(intervention, Intervention):
        raise UserInputError(
            f"{type(intervention).__name__} is no intervention: load_intervention(FILE) gives one."
        )
    strength = strength_of(beta)
    with bridge_around(model) as bridge:
        _require_layers(intervention, bridge)
        inner: Any = bridge.original_model
        device = next(iter(inner.parameters())).device
        text = SteeredText(_at_home(intervention, bridge).to(device), strength)

        def starts(module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            text.starts(**_given(module, arguments, options))

        before = inner.register_forward_pre_hook(starts, with_kwargs=True)
        after = inner.register_forward_hook(lambda *_: text.ends(), always_call=True)
        try:
            with bridge.hooks(fwd_hooks=_hooks(text, bridge)):
                yield
        finally:
            before.remove()
            after.remove()


@contextmanager
def bridge_around(model: Any) -> Iterator[TransformerBridge]:
    """Gives a TransformerBridge itself, or one around a Hugging Face causal LM.

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
    with left_as_found(model):
        yield _booted(model)


@contextmanager
def left_as_found(model: PreTrainedModel) -> Iterator[None]:
    """Has a Hugging Face model be as it was when the block ends, attribute by attribute.

    Adapters of TransformerLens exchange modules, hooks and `forward`s (Falcon), of single modules
    or of their classes, and settings of the configuration. Numbers of weights, and what attributes
    refer to beyond dicts, lists and sets, are not looked at.
    """
    modules = list(model.modules())
    configs = _configs([value for module in modules for value in vars(module).values()])
    kept = [_Kept.of(one) for one in (*modules, *configs)]
    classes = {kind: dict(vars(kind)) for kind in map(type, modules)}
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for one in kept:
            one.put_back()
        for kind, before in classes.items():
            for name in {*before, *vars(kind)}:
                if name not in before:
                    delattr(kind, name)
                elif vars(kind).get(name) is not before[name]:
                    setattr(kind, name, before[name])
        for parameter, needed in frozen:
            parameter.requires_grad_(needed)


def _configs(values: Sequence[Any]) -> list[Any]:
    """The configurations among some values, and those within them."""
    from transformers import GenerationConfig, PreTrainedConfig

    kinds, found = (GenerationConfig, PreTrainedConfig), {}
    waiting = [value for value in values if isinstance(value, kinds)]
    while waiting:
        config = waiting.pop()
        if id(config) not in found:
            found[id(config)] = config
            waiting += [value for value in vars(config).values() if isinstance(value, kinds)]
    return list(found.values())


@dataclass(frozen=True)
class _Kept:
    """An object's attributes, and what those of them hold that can be changed in place."""

    one: Any
    attributes: dict[str, Any]
    contents: dict[str, Any]

    @staticmethod
    def of(one: Any) -> _Kept:
        attributes = dict(vars(one))
        held = {name: v for name, v in attributes.items() if isinstance(v, dict | list | set)}
        return _Kept(one, attributes, {name: copy.copy(value) for name, value in held.items()})

    def put_back(self) -> None:
        vars(self.one).clear()
        vars(self.one).update(self.attributes)
        for name, content in self.contents.items():
            value = self.attributes[name]
            value.clear()
            (value.extend if isinstance(value, list) else value.update)(content)


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
        if not model.config.architectures:  # made in memory, and never saved
            model.config.architectures = [name]
        with quiet_transformers():
            return boot_bridge(model, tiny_tokenizer(), name)
    except UserInputError:
        raise
    except Exception as error:
        raise UserInputError(
            f"TransformerLens cannot read {name}: {type(error).__name__}: {first_line(error)}"
        ) from error


def strength_of(beta: SupportsFloat) -> float:
    """The strength as a number that fp32 can hold.

    Raises:
        UserInputError: if it is none.
    """
    try:
        number = math.nan if isinstance(beta, str) else float(beta)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not abs(number) <= torch.finfo(torch.float32).max:
        raise UserInputError(f"beta has to be a finite number of fp32, and this is {beta!r}.")
    return number


def _given(module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a forward is given: token ids or their embeddings, the length of the cache, the mask."""
    bound = inspect.signature(module.forward).bind_partial(*arguments, **options)
    given = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= given.pop(name, {})
    tokens, cache = given.get("input_ids"), given.get("past_key_values")
    tokens = given.get("inputs_embeds") if tokens is None else tokens
    if not isinstance(tokens, Tensor):
        raise UserInputError("A steered forward needs `input_ids` or `inputs_embeds`.")
    past = 0 if cache is None else int(cache.get_seq_length())
    return {"tokens": tokens, "past": past, "mask": given.get("attention_mask")}


def _require_layers(intervention: Intervention, bridge: Any) -> None:
    layers, needed = int(bridge.cfg.n_layers), intervention.grid.n_layers
    if layers != needed:
        raise UserInputError(
            f"The intervention is for a model of {needed} layers; this one has {layers}."
        )


def _hooks(text: SteeredText, bridge: Any) -> list[tuple[str, HookFunction]]:
    """What is hooked at every layer.

    Raises:
        UserInputError: for a site that the architecture has not.
    """
    layers, known = range(text.intervention.grid.n_layers), bridge.hook_dict
    hooks = [pair for layer in layers for pair in layer_hooks(text, layer, known)]
    missing = [name for name, _ in hooks if name not in known]
    sites = text.intervention.grid.sites
    if Site.RESID_MID in sites and bridge.cfg.parallel_attn_mlp:
        missing.append("resid_mid, since its attention and MLP run in parallel")
    if missing:
        raise UserInputError(
            f"The intervention is at {', '.join(sites)}, and {bridge.cfg.architecture} has no "
            f"{missing[0]}."
        )
    return hooks


def _at_home(intervention: Intervention, bridge: Any) -> Intervention:
    """The intervention with what it needs of the model: gates at o read a head through W_O.

    Raises:
        UserInputError: for a model whose heads are others than the intervention's.
    """
    grid = intervention.grid
    if grid.heads is None:
        return intervention
    cfg, sites = bridge.cfg, HEAD_SITES.intersection(grid.sites)
    n_kv_heads = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
    own = Heads(int(cfg.n_heads), int(n_kv_heads), int(cfg.d_head))
    differ = any(grid.heads.count(site) != own.count(site) for site in sites)
    if differ or grid.heads.d_head not in (UNKNOWN, own.d_head):
        raise UserInputError(f"The intervention is for {grid.heads}; this model has {own}.")
    if not isinstance(intervention, DynamicScaling) or Site.O not in sites:
        return intervention
    output = torch.stack([block.attn.W_O.detach().float() for block in bridge.blocks])
    here = copy.deepcopy(intervention).to(output.device)
    return here.remade(grid, here.gates.detach(), output)
