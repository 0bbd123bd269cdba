"""The one optimisation loop of the trained methods: Adam on -Psi (Eq. 9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from methods.core.intervention import Intervention
from methods.core.objective import Objective, kl_divergence, minimality
from methods.core.prefix import Prefix
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Sparsity = Literal["penalty", "proximal"]
"""How lambda_m M_1 is maximised: by its gradient, which never gives a zero, or by proximal steps,
which give exact ones."""


class TrainingDivergedError(UserInputError):
    """The objective or a parameter became NaN or infinite."""


@dataclass(frozen=True)
class Trace:
    """What happened while training.

    Attributes:
        steps: optimiser steps taken.
        psi: the objective before each epoch's steps, averaged over its batches.
    """

    steps: int
    psi: tuple[float, ...]


def initial(shape: tuple[int, ...], std: float, seed: int) -> Float[Tensor, "*shape"]:
    """Parameters ~ N(0, std), the same for a seed on every device."""
    return std * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def train(
    subject: SubjectModel,
    intervention: Intervention,
    prompts: Prompts,
    objective: Objective,
    *,
    learning_rate: float,
    epochs: int,
    batch_size: int | None,
    seed: int,
    sparsity: Sparsity = "penalty",
    rates: Mapping[str, float] | None = None,
    before_step: Callable[[], Float[Tensor, ""]] | None = None,
) -> Trace:
    """Maximises Psi over the intervention's parameters, in place.

    +1 and -1 are rows of the same forward, and the original distribution of Eq. 7 is computed
    once. Constant learning rate; full batches unless `batch_size` is set, else minibatches
    shuffled by `seed`. Works within `torch.no_grad` and `torch.inference_mode`, if the
    intervention was made under `torch.inference_mode(False)`.

    `rates` are the learning rates of parameters, by name, that have another one. `before_step` is
    called before each step, and gives what is minimised besides -Psi.

    With proximal steps lambda_m M_1 is left out of the gradient; after each step of Adam every
    parameter is moved towards 0 by lr * lambda_m in Adam's own metric, that is divided by the root
    of its second moment (Duchi et al. 2011, Section 2, for the composite step; AdaGrad's metric
    there). lr * lambda_m alone would be lost beside Adam's steps of lr.

    Raises:
        TrainingDivergedError: if the objective or a parameter is no longer a number.
        NonFiniteLogitsError: if the unsteered model's logits are not.
    """
    with torch.inference_mode(False), torch.enable_grad():
        gradients = gradients_of(subject, intervention, prompts, objective, sparsity)
        optimizer = _adam(intervention, learning_rate, rates or {})
        shuffler = torch.Generator().manual_seed(seed)
        history: list[float] = []
        steps = 0
        for epoch in range(epochs):
            values = []
            for index in _batches(len(prompts), batch_size, shuffler):
                optimizer.zero_grad(set_to_none=True)
                if before_step is not None:
                    subject.backward(before_step(), 0)
                values.append(gradients(index.to(subject.device)))
                optimizer.step()
                if sparsity == "proximal":
                    amount = learning_rate * objective.lambda_m
                    intervention.shrink([amount / metric for metric in adam_metric(optimizer)])
                steps += 1
            psi = float(torch.stack(values).mean())
            if not math.isfinite(psi):
                what = f"the objective is {psi} in epoch {epoch + 1} of {epochs}"
                raise _diverged(what, learning_rate)
            history.append(psi)
    if not all(bool(torch.isfinite(theta).all()) for theta in intervention.parameters()):
        what = f"the last of {steps} steps made a parameter NaN or infinite"
        raise _diverged(what, learning_rate)
    return Trace(steps, tuple(history))


def _adam(
    intervention: Intervention, learning_rate: float, rates: Mapping[str, float]
) -> torch.optim.Adam:
    groups = [
        {"params": [parameter], "lr": rates.get(name, learning_rate)}
        for name, parameter in intervention.named_parameters()
    ]
    return torch.optim.Adam(groups, lr=learning_rate)


def _batches(
    n: int, batch_size: int | None, shuffler: torch.Generator
) -> tuple[Int[Tensor, " prompt"], ...]:
    """The prompts of an epoch's steps: all at once, or shuffled minibatches."""
    if batch_size is None:
        return (torch.arange(n),)
    return torch.split(torch.randperm(n, generator=shuffler), batch_size)


def gradients_of(
    subject: SubjectModel,
    intervention: Intervention,
    prompts: Prompts,
    objective: Objective,
    sparsity: Sparsity = "penalty",
) -> Callable[[Int[Tensor, " prompt"]], Float[Tensor, ""]]:
    """A function of some prompts that adds the gradients of -Psi to the parameters, and gives Psi.

    With `proximal` sparsity both are without lambda_m M_1. Needs grad mode.

    Raises:
        NonFiniteLogitsError: if the unsteered model's logits are no numbers.
    """
    unsteered = subject.unsteered_logits(prompts.tokens, mask=prompts.mask)
    reference = torch.log_softmax(unsteered, dim=-1)
    prefix = Prefix.of(subject, prompts, intervention.first_position)
    return partial(
        _accumulate, subject, intervention, prompts, prefix, reference, objective, sparsity
    )


def _diverged(what: str, learning_rate: float) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"Training diverged: {what}. A learning rate below {learning_rate:g} may be right."
    )


def adam_metric(optimizer: torch.optim.Adam) -> list[Tensor]:
    """What Adam divides each parameter's steps by: the root of its unbiased second moment."""
    found = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            unbiased = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
            found.append(unbiased.sqrt() + group["eps"])
    return found


def _accumulate(
    subject: SubjectModel,
    intervention: Intervention,
    prompts: Prompts,
    prefix: Prefix,
    reference: Float[Tensor, "prompt vocab"],
    objective: Objective,
    sparsity: Sparsity,
    batch: Int[Tensor, " prompt"],
) -> Float[Tensor, ""]:
    """Gradients of -Psi over the prompts of one step, in chunks that fit a forward; gives Psi."""
    total = reference.new_zeros(())
    for index in torch.split(batch, max(1, subject.rows_per_forward // 2)):
        chunk, log_p = prompts.take(index), reference[index]
        plus, minus = _both_signs(subject, intervention, prefix, index)
        behaviour = objective.behaviour(
            chunk.logit_difference(plus),
            chunk.logit_difference(minus),
            kl_divergence(plus, log_p),
            kl_divergence(minus, log_p),
        )
        behaviour = behaviour * len(chunk) / len(batch)
        subject.backward(-behaviour, 2 * len(chunk))
        total = total + behaviour.detach()
    size_term = objective.lambda_m * minimality(intervention.theta())
    if sparsity == "penalty":
        (-size_term).backward()  # type: ignore[no-untyped-call]
    return total + size_term.detach()


def _both_signs(
    subject: SubjectModel, intervention: Intervention, prefix: Prefix, index: Tensor
) -> tuple[Float[Tensor, "prompt vocab"], Float[Tensor, "prompt vocab"]]:
    """Logits at beta = +1 and at beta = -1, from one forward."""
    beta = torch.ones(2 * len(index), device=index.device)
    beta[len(index) :] = -1
    logits = prefix.steer(subject, index.repeat(2), intervention, beta)
    return logits[: len(index)], logits[len(index) :]
