"""A fitted intervention taken elsewhere: as a file, and at work on any model of its kind.

    from bench.steering import load_intervention, steered

    intervention = load_intervention("activ_scalar.safetensors")
    with steered(model, intervention, beta=1.5):
        model.generate(**tokenizer(prompt, return_tensors="pt"))

`model` is a TransformerBridge or a plain Hugging Face causal LM; it is left as it was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.models.bridge import boot_bridge
from bench.models.quiet import quiet_transformers
from bench.models.tiny import tiny_tokenizer
from bench.store.interventions import (
    UNKNOWN,
    intervention_of,
    load_intervention,
    save_intervention,
)
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hooks import layer_hooks
from methods.core.intervention import Intervention
from methods.core.points import HEAD_SITES, Heads, Site
from tasks.errors import UserInputError

__all__ = ["intervention_of", "load_intervention", "save_intervention", "steered"]

OWN_PARTS = ("_modules", "_parameters", "_buffers")
"""What a bridge changes of a Hugging Face model's modules."""


class SteeredForward:
    """The `Edit` of whatever forward comes: a prompt, or what is generated behind it.

    Scalars and vectors belong to the positions of prompts of one length, and leave what is
    generated behind it alone; the prompt's activations stay as they were edited, in the cache.
    Gates that were trained at all positions act at every position, whatever the length.
    """

    def __init__(self, intervention: Intervention, beta: float) -> None:
        self.intervention, self.beta = intervention, beta
        self.points = intervention.grid.site_layers
        self.past = 0
        self.prompt: Tensor | None = None
        grid = intervention.grid
        everywhere = len(grid.positions) >= grid.n_positions - 1
        self.any_length = isinstance(intervention, DynamicScaling) and everywhere

    def starts(self, past: int, tokens: Tensor) -> None:
        """A forward over `tokens` (row, token[, width]) behind `past` others.

        Without a cache, what is generated comes with its whole prompt again: it is known by that.

        Raises:
            UserInputError: for a prompt of another length than the intervention was made for.
        """
        self.past = past
        if self.any_length:
            return
        needed, length = self.intervention.grid.n_positions, int(tokens.shape[1])
        if not past and length == needed:
            self.prompt = tokens.detach().clone()
            return
        if self.prompt is None:
            goes_on = False
        elif past:
            goes_on = past >= needed
        else:
            goes_on = length > needed and torch.equal(tokens[:, :needed], self.prompt)
        if not goes_on:
            raise UserInputError(
                f"The intervention was made for prompts of {needed} tokens, and this one has "
                f"{past + length}. Scalars and vectors belong to positions; dynamic scalars take "
                "any length."
            )

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation after the intervention."""
        past, length = self.past, h.shape[1]
        grid = self.intervention.grid
        beta = torch.full((len(h),), self.beta, device=h.device)
        if not self.any_length:
            if past:
                return h
            head, rest = h[:, : grid.n_positions], h[:, grid.n_positions :]
            edited = self.intervention.bind(beta, 0)(site, layer, head)
            return torch.cat([edited, rest], dim=1) if rest.shape[1] else edited
        bos = grid.has_bos and past == 0
        here = replace(
            grid,
            positions=tuple(range(int(bos), length)),
            n_positions=length,
            has_bos=bos,
            keep_final_residual=grid.keep_final_residual or past > 0,
        )
        if not here.positions:
            return h
        moved = self.intervention.on(here)
        assert moved is not None
        return moved.to(h.device).bind(beta, 0)(site, layer, h)


@contextmanager
def steered(model: Any, intervention: Intervention, beta: float) -> Iterator[None]:
    """Has every forward of `model` in the block run under the intervention.

    Args:
        model: a TransformerBridge, or a Hugging Face causal LM; one sequence length a batch, no
            padding. Within the block only one thread may use it.
        intervention: what is done.
        beta: how strongly; 0 leaves every logit as it is.

    Raises:
        UserInputError: for a model that TransformerLens cannot read, or whose layers are others
            than the intervention's; in a forward, for a prompt of the wrong length.
    """
    with ExitStack() as stack:
        bridge = model if hasattr(model, "original_model") else stack.enter_context(_bridged(model))
        layers, needed = int(bridge.cfg.n_layers), intervention.grid.n_layers
        if layers != needed:
            raise UserInputError(
                f"The intervention is for a model of {needed} layers; this one has {layers}."
            )
        device = next(iter(bridge.original_model.parameters())).device
        edit = SteeredForward(_at_home(intervention, bridge).to(device), beta)

        def note(module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            cache = options.get("past_key_values")
            past = 0 if cache is None else int(cache.get_seq_length())
            edit.starts(past, _tokens(arguments, options))

        handle = bridge.original_model.register_forward_pre_hook(note, with_kwargs=True)
        stack.callback(handle.remove)
        hooks = [pair for layer in range(layers) for pair in layer_hooks(edit, layer)]
        stack.enter_context(bridge.hooks(fwd_hooks=hooks))
        yield


def _tokens(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Tensor:
    """What a forward is given: token ids, or their embeddings."""
    found = options.get("input_ids")
    if found is None:
        found = arguments[0] if arguments else options.get("inputs_embeds")
    assert isinstance(found, Tensor)
    return found


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
    return DynamicScaling(grid, intervention.gates.detach().to(output.device), output)


@contextmanager
def _bridged(model: Any) -> Iterator[Any]:
    """A bridge around a Hugging Face model, which is itself again when the block ends."""
    modules = {
        module: [dict(getattr(module, part)) for part in OWN_PARTS] for module in model.modules()
    }
    frozen = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    attention, training = model.config._attn_implementation, model.training
    try:
        model.set_attn_implementation("eager")
        with quiet_transformers():
            bridge = boot_bridge(model, tiny_tokenizer(), type(model).__name__)
        yield bridge
    finally:
        for module, parts in modules.items():
            for part, content in zip(OWN_PARTS, parts, strict=True):
                getattr(module, part).clear()
                getattr(module, part).update(content)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(frozen[name])
        model.set_attn_implementation(attention)
        model.train(training)
