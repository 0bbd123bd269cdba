"""Whether a model, and the state of torch, are left as they were found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.conformance.check import require
from methods.core.subject import SubjectModel


@contextmanager
def left_as_found(model: SubjectModel) -> Iterator[None]:
    """Requires that the block changes nothing about the model or the state of torch."""
    before, weights = _state(model), _weights(model)
    yield
    after = _state(model)
    for what, value in before.items():
        require(value == after[what], f"after a fit {what} is not what it was before")
    for name, tensor in _weights(model).items():
        require(torch.equal(weights[name], tensor), f"a fit changes the weight {name}")


def _weights(model: SubjectModel) -> dict[str, Tensor]:
    original = model.bridge.original_model
    both = [*original.named_parameters(), *original.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in both}


def _state(model: SubjectModel) -> dict[str, Any]:
    bridge = model.bridge
    modules = [*bridge.named_modules(), *bridge.original_model.named_modules()]
    parameters = dict(bridge.original_model.named_parameters())
    return {
        "the number of hooks": {
            name: [
                len(getattr(module, kind, ()))
                for kind in (
                    "_forward_hooks",
                    "_forward_pre_hooks",
                    "_backward_hooks",
                    "fwd_hooks",
                    "bwd_hooks",
                )
            ]
            for name, module in modules
        },
        "the training mode": {name: module.training for name, module in modules},
        "requires_grad or a gradient": {
            name: (parameter.requires_grad, parameter.grad is None)
            for name, parameter in parameters.items()
        },
        "the grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "the default dtype": torch.get_default_dtype(),
        "the deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "the global random state": torch.random.get_rng_state().tolist(),
        "the bridge": sorted(vars(bridge)),
        "the bridge's configuration": vars(bridge.cfg).copy(),
    }
