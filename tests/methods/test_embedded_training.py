"""Training on the embedded model against the same training, or its formula, by PyTorch's hooks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.methods.plain_model import LAST, POINTS, WIDE, Setup, at_last, in_order, near, plain
from tests.methods.small import apart


def kept_by(name: str, number: Tensor) -> Tensor:
    theta = torch.sigmoid(number)
    return torch.sigmoid(number + 2 / 3 * np.log(11)) if name == "hard_concrete" else theta


def gates_of(name: str, number: Tensor, uniform: Tensor) -> Tensor:
    theta = torch.sigmoid(number)
    if name == "hard_concrete":
        noisy = torch.sigmoid((torch.logit(uniform) + number) / (2 / 3))
        return (1.2 * noisy - 0.1).clamp(0, 1)
    return (0.5 - (uniform - theta) / theta / (1 - theta)).clamp(0, 1)


@pytest.mark.parametrize(("name", "start"), [("hard_concrete", 2.0), ("uniform_gates", 1.0)])
def test_gates_are_those_of_the_same_training_by_hooks(
    real: Setup, name: str, start: float
) -> None:
    clean, corrupted = real.clean, real.corrupted
    grid, generator = real.grid(*WIDE), torch.Generator().manual_seed(0)
    number = torch.full(grid.shape, start, requires_grad=True)
    adam = torch.optim.Adam([number], lr=0.2)

    def shut(site: str, layer: int, gates: Tensor) -> Callable[[Tensor], Tensor]:
        gate, other = gates[:, WIDE.index(site), layer], corrupted.last(site, layer)
        return lambda h: at_last(gate * h[:, -1] + (1 - gate) * other)(h)

    for _ in range(3):
        gates = gates_of(name, number, torch.rand((2, *grid.shape), generator=generator))
        run = plain(real.bare, real.some.tokens, {one: shut(*one, gates) for one in POINTS})
        log_p, log_q = run.logits.log_softmax(dim=-1), clean.logits.log_softmax(dim=-1)
        divergence = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="sum") / 2
        adam.zero_grad()
        (divergence + kept_by(name, number).mean()).backward()
        adam.step()
    found = real.fit(grid, name, steps=3)
    near(found.extras["log_alpha"] - start, number - start, 0.02)
    near(found.scores, kept_by(name, found.extras["log_alpha"]))


def test_causal_head_gating_is_the_same_training_by_hooks(real: Setup) -> None:
    answers = real.some.answers

    def gated(gates: Tensor, layer: int) -> Callable[[Tensor], Tensor]:
        return lambda z: at_last((z[:, -1].unflatten(-1, (9, 64)) * gates[:, layer]).flatten(1))(z)

    def fitted(start: Tensor, pressure: float) -> Tensor:
        log_odds = start.clone().requires_grad_()
        adam = torch.optim.Adam([log_odds], lr=1.0)
        for _ in range(2):
            gates = torch.sigmoid(log_odds)
            edits = {("z", at): gated(gates, at) for at in range(LAST + 1)}
            logits = plain(real.bare, real.some.tokens, edits).logits
            adam.zero_grad()
            (
                torch.nn.functional.cross_entropy(logits, answers) - pressure * log_odds.mean()
            ).backward()
            adam.step()
        return log_odds.detach()

    free = fitted(torch.zeros(9, LAST + 1, 1), 0.0)
    opened, shut = (torch.sigmoid(fitted(free, pressure)) for pressure in (0.1, -0.1))
    found = real.fit(real.grid("z"), "causal_head_gating", steps=2)
    assert apart(found.extras["opened"], opened) < 0.02
    assert apart(found.scores, opened + shut - 1) < 0.02


TRAINED = [
    ("activ_scalar", {}),
    ("steer_vec", {}),
    ("channel_scalar", {}),
    ("jola", {"vector_learning_rate": 0.01}),
    ("dyn_scalar", {}),
    ("dyn_scalar", {"hidden": 3}),
    ("dyn_scalar", {"hidden": 3, "activation": "relu"}),
]


def edited(own: Any, name: str, at: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """A trained intervention at beta = 1 on the last position, from its parameters by formula."""
    values = {key: value.detach() for key, value in own.named_parameters()}
    row, layer = at
    if name == "activ_scalar":
        return lambda h: h * (1 + values["alpha"][row, layer, 0])
    if name in ("steer_vec", "channel_scalar"):
        vector = values["vectors"][row, layer, 0]
        return lambda h: h + vector if name == "steer_vec" else h * (1 + vector)
    if name == "jola":
        add, scale = (1.2 * torch.sigmoid(values["log_alpha"][row, layer, 0]) - 0.1).clamp(0, 1)
        vector, scales = (values[key][row, layer, 0] for key in ("vectors", "scales"))
        return lambda h: h * (1 + scale * scales) + add * vector
    gates = values["gates"][row, layer % values["gates"].shape[1]]
    outer = values["outer"][row, layer] if "outer" in values else torch.ones(1)
    bend = {"tanh": torch.tanh, "relu": torch.relu}.get(getattr(own, "activation", ""), torch.clone)

    def scaled(h: Tensor) -> Tensor:
        read = torch.nn.functional.normalize(h, dim=-1) @ gates.view(-1, h.shape[-1]).T
        return h * (1 + bend(read) @ outer)[:, None]

    return scaled


@pytest.mark.parametrize(("name", "settings"), TRAINED, ids=str)
def test_what_is_trained_steers_by_its_formula(real: Setup, name: str, settings: Any) -> None:
    grid, some = real.grid(*WIDE), real.some
    settings = {"epochs": 2, "learning_rate": 0.03, **settings}
    found = real.fit(grid, name, **settings)
    assert found.intervention is not None
    own = found.intervention
    edit_of = {(site, at): edited(own, name, (WIDE.index(site), at)) for site, at in POINTS}
    with torch.no_grad():
        steered = real.model.logits(some.tokens, found.intervention.at(torch.ones(2)))
        edits = {
            at: lambda h, edit=edit: at_last(edit(h[:, -1]))(h) for at, edit in edit_of.items()
        }
        hooked_logits = plain(real.bare, some.tokens, edits).logits
    near(steered, hooked_logits)
    assert real.ld(steered).mean() > real.ld(real.clean.logits).mean() + 0.05
    if name in ("jola", "activ_scalar", "dyn_scalar"):
        h = {at: real.clean.last(*at) for at in edit_of}
        length = in_order(
            lambda *at: (edit_of[at](h[at]) - h[at]).norm(dim=-1) / h[at].norm(dim=-1)
        )
        near(
            found.prompt_scores.abs()
            if found.prompt_scores is not None
            else found.scores.abs().expand(length.shape),
            length,
        )
