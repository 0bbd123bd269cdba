"""Local rules: a backward in which some parts of the network have other derivatives than their own.

Every rule puts a surrogate in the place of an activation: a tensor of the same value, bit for bit,
with another derivative. Logits are unchanged, and so is everything else in the forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Tensor

from methods.core.hooks import HookFunction
from methods.core.norm import Norm
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

SAME = 0.02
"""Relative difference that rounding explains between a norm and what it is read as."""


class UnknownPartError(UserInputError):
    """An MLP is not f(x) or f(gate) u, or a norm not weight times x over its scale, as read."""


@dataclass(frozen=True)
class Rules:
    """Which local derivatives are replaced; the defaults replace none.

    Attributes:
        hold_norms: the scale of every norm is a constant.
        hold_activations: f(x) is x times the constant f(x) / x.
        gate: of f(gate) u in a gated MLP: both factors have a gradient, half of it (`half`), or
            the gate is a constant (`constant`).
        values: share of the gradient of pattern times values that either factor gets.
        scores: share of the gradient of the attention scores that queries and keys get.
        temperature: of the softmax whose derivative the attention's softmax gets.
    """

    hold_norms: bool = False
    hold_activations: bool = False
    gate: Literal["ordinary", "half", "constant"] = "ordinary"
    values: float = 1.0
    scores: float = 1.0
    temperature: float = 1.0


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value`, bit for bit, with the derivative of `surrogate`."""
    surrogate = surrogate.to(value.dtype)
    return value.detach() + (surrogate - surrogate.detach())


def scaled_gradient(x: Tensor, share: float) -> Tensor:
    """`x`, bit for bit, with a share of its gradient."""
    return with_gradient_of(x, share * x)


@contextmanager
def local_rules(subject: SubjectModel, rules: Rules) -> Iterator[None]:
    """Forwards of the block are back-propagated by these rules.

    Raises:
        UserInputError: if the model has no hooks where a rule acts.
        UnknownPartError: in a forward, if an MLP or a norm is not what the rules take it for.
    """
    hooks = list(_hooks(subject, rules))
    names = {name for name, _ in hooks}
    missing = names.difference(subject.points_by_name)
    if rules.scores != 1 or rules.temperature != 1:
        missing |= names & set(subject.unheeded_hooks)
    if missing:
        raise UserInputError(
            f"rules: {subject.bridge.cfg.architecture} cannot be hooked at "
            f"{', '.join(sorted(missing)[:3])}, where the rules act."
        )
    with subject.attached(hooks):
        yield


def _hooks(subject: SubjectModel, rules: Rules) -> Iterator[tuple[str, HookFunction]]:
    for layer, block in enumerate(subject.bridge.blocks):
        name = f"blocks.{layer}"
        if rules.values != 1:
            yield f"{name}.attn.hook_z", lambda z, hook: scaled_gradient(z, rules.values)
        if rules.scores != 1:
            yield f"{name}.attn.hook_attn_scores", lambda s, hook: scaled_gradient(s, rules.scores)
        if rules.temperature != 1:
            yield from _softmax(f"{name}.attn", rules.temperature)
        if rules.hold_activations or rules.gate != "ordinary":
            if not hasattr(block, "mlp"):
                raise UnknownPartError(
                    f"rules: layer {layer} of {subject.bridge.cfg.architecture} has no MLP that "
                    "the rules know how to read."
                )
            yield from _mlp(f"{name}.mlp", block.mlp, rules)
    if rules.hold_norms:
        for name in sorted(subject.points_by_name):
            if name.endswith(".hook_scale"):
                yield from _norm(subject, name.removesuffix(".hook_scale"))


def _pair(
    before: str, after: str, surrogate: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[tuple[str, HookFunction]]:
    """Gives what `after` sees the derivative of surrogate(what `before` saw, what `after` sees)."""
    seen: list[Tensor] = []

    def keep(x: Tensor, hook: Any) -> None:
        seen[:] = [x]

    def replace(y: Tensor, hook: Any) -> Tensor:
        return with_gradient_of(y, surrogate(seen.pop(), y))

    yield before, keep
    yield after, replace


def _norm(subject: SubjectModel, name: str) -> Iterator[tuple[str, HookFunction]]:
    bridged = attrgetter(name)(subject.bridge)

    def held(x: Tensor, y: Tensor) -> Tensor:
        norm, x = Norm.of(bridged, x.shape[-1]), x.float()
        surrogate = norm.linear(x, x.detach())
        found = (surrogate + norm.bias).detach()
        if (found - y.detach()).norm() > SAME * y.detach().norm():
            raise UnknownPartError(
                f"rules: {name} is not a weight times x over its scale, as the rules read it, so "
                "its gradients would be wrong."
            )
        return surrogate

    return _pair(f"{name}.hook_in", f"{name}.hook_out", held)


def _softmax(name: str, temperature: float) -> Iterator[tuple[str, HookFunction]]:
    """The derivative p (g - sum p g) with p at the temperature."""
    return _pair(
        f"{name}.hook_attn_scores",
        f"{name}.hook_pattern",
        lambda scores, pattern: temperature * torch.softmax(scores.float() / temperature, dim=-1),
    )


def _mlp(name: str, mlp: Any, rules: Rules) -> Iterator[tuple[str, HookFunction]]:
    """The activation, and in a gated MLP its product with what it gates."""
    if getattr(mlp, "gate", None) is None:
        if rules.hold_activations:
            yield from _pair(f"{name}.in.hook_out", f"{name}.out.hook_in", _held)
        return
    function = getattr(mlp.original_component, "act_fn", None)
    gates: list[Tensor] = []

    def keep(gate: Tensor, hook: Any) -> None:
        gates[:] = [gate]

    def product(u: Tensor, y: Tensor) -> Tensor:
        gate = gates.pop()
        activated = None if function is None else function(gate)
        if activated is None or not torch.allclose(activated * u, y, rtol=1e-2, atol=1e-4):
            raise UnknownPartError(
                f"rules: {name} is not an activation of a gate times what it gates, as the rules "
                "read it, so its gradients would be wrong."
            )
        if rules.gate == "constant":
            activated = activated.detach()
        elif rules.hold_activations:
            activated = _held(gate, activated)
        return (0.5 if rules.gate == "half" else 1.0) * activated * u

    yield f"{name}.gate.hook_out", keep
    yield from _pair(f"{name}.in.hook_out", f"{name}.out.hook_in", product)


def _held(x: Tensor, y: Tensor) -> Tensor:
    """x times the constant y / x; 0 where x is."""
    return x * torch.where(x == 0, 0, y / torch.where(x == 0, 1, x)).detach()
