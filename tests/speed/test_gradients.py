"""Gradient methods, training and evaluation against bare passes of the Hugging Face model.

Both sides run PyTorch's own linear layers, so that a ratio is what the suite adds.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.evaluation.split import Split, respond
from bench.models.load import LoadedModel
from methods import METHODS
from methods.core.objective import Objective
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.method import Setting
from tests.speed.conftest import Comparison, grid_of, random_prompts

N_PROMPTS = 8
EPOCHS = 4
STATED = {
    "activ_scalar": 1.0,
    "steer_vec": 1.01,
    "dyn_scalar": 1.05,
    "attr_patch": 1.0,
    "grad_scalar": 1.05,
    "dla": 1.07,
    "sweep": 1.0,
}
"""Ratios as docs/performance.md states them."""


def forward(model: Any, tokens: torch.Tensor) -> Callable[[], None]:
    """A forward of the Hugging Face model that ends in the last position's logits."""

    @torch.no_grad()
    def run() -> None:
        model(tokens, logits_to_keep=1, use_cache=False)

    return run


def forward_backward(model: Any, tokens: torch.Tensor) -> Callable[[], None]:
    """The same with the gradient in the embeddings, weights frozen."""

    def run() -> None:
        embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
        out = model(inputs_embeds=embedded, logits_to_keep=1, use_cache=False)
        out.logits.logsumexp(-1).sum().backward()

    return run


@pytest.mark.parametrize("name", ["activ_scalar", "steer_vec", "dyn_scalar"])
def test_training_step(
    compare: Comparison, plain: LoadedModel, hugging_face: Any, name: str
) -> None:
    """Epochs of full batches, the original distribution's one forward included."""
    subject, prompts = SubjectModel(plain.bridge), random_prompts(N_PROMPTS)
    grid, method = grid_of(subject), METHODS[name].load()(epochs=EPOCHS)
    step = forward_backward(hugging_face, prompts.tokens.repeat(2, 1))
    once = forward(hugging_face, prompts.tokens)

    def bare() -> None:
        once()
        if name != "activ_scalar":
            once()  # their scores are read off the unsteered activations
        for _ in range(EPOCHS):
            step()

    compare(
        f"{name}, {EPOCHS} steps",
        lambda: method.fit(subject, prompts, grid, Setting(Objective(), 0)),
        bare,
        at_most=STATED[name],
        rounds=3,
    )


@pytest.mark.parametrize(("name", "forwards"), [("attr_patch", 2), ("grad_scalar", 1), ("dla", 1)])
def test_scores(
    compare: Comparison, plain: LoadedModel, hugging_face: Any, name: str, forwards: int
) -> None:
    """All points and prompts from one forward (AttrPatch: two) and at most one backward."""
    subject, prompts = SubjectModel(plain.bridge), random_prompts(N_PROMPTS)
    grid, method = grid_of(subject), METHODS[name].load()()
    once = forward(hugging_face, prompts.tokens)
    both = forward_backward(hugging_face, prompts.tokens)

    def bare() -> None:
        for _ in range(forwards - 1):
            once()
        once() if name == "dla" else both()

    compare(
        name,
        lambda: method.fit(subject, prompts, grid, Setting(Objective(), 0)),
        bare,
        at_most=STATED[name],
    )


def test_sweep(compare: Comparison, plain: LoadedModel, hugging_face: Any) -> None:
    """A sweep of 16 strengths over 8 prompts, as rows of forwards."""
    subject, prompts = SubjectModel(plain.bridge), random_prompts(N_PROMPTS)
    grid = grid_of(subject)
    split = Split.of("test", prompts, subject)
    scaling = StaticScaling(grid, torch.full(grid.shape, 0.01))
    beta = torch.linspace(-2, 2, 16)
    bare = forward(hugging_face, prompts.tokens.repeat(4, 1))

    def rows_of_the_sweep() -> None:
        for _ in range(4):
            bare()

    compare(
        "sweep",
        lambda: respond(subject, split, scaling, beta),
        rows_of_the_sweep,
        at_most=STATED["sweep"],
    )
