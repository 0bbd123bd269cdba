"""Optimal ablation: the constant activation whose place in a component hurts the model least.

Source: 'Optimal ablation for interpretability' (Li and Janson 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.hooks import Activations, SiteLayer
from methods.core.objective import kl_divergence
from methods.core.paths import Between
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel

STEPS, LEARNING_RATE = 20, 0.1
"""Of Adam, on vectors in units of a component's own spread over prompts and positions."""


@dataclass(frozen=True, eq=False)
class ConstantActivations:
    """One vector a site and layer (and head), the same for all prompts and positions.

    Attributes:
        mean: over prompts and the grid's positions; where training begins.
        spread: root mean square distance from it, a number a component.
        moved: how far from the mean, in spreads; what is trained.
        shape: of the activations, (prompt, position, *head width).
    """

    mean: dict[SiteLayer, Float[Tensor, "*head width"]]
    spread: dict[SiteLayer, Float[Tensor, "*head 1"]]
    moved: dict[SiteLayer, Float[Tensor, "*head width"]]
    shape: dict[SiteLayer, torch.Size]

    @staticmethod
    def at_the_mean(grid: PointGrid, clean: Activations) -> ConstantActivations:
        """The means of the clean run."""
        chosen = {point: h[:, list(grid.positions)].float() for point, h in clean.items()}
        mean = {point: h.mean(dim=(0, 1)) for point, h in chosen.items()}
        spread = {
            point: (h - mean[point]).square().mean(dim=(0, 1, -1)).sqrt()[..., None]
            for point, h in chosen.items()
        }
        moved = {point: torch.zeros_like(h, requires_grad=True) for point, h in mean.items()}
        return ConstantActivations(
            mean, spread, moved, {point: h.shape for point, h in clean.items()}
        )

    def activations(self) -> Activations:
        """The vectors in place of every activation, with their gradient."""
        return {
            point: (self.mean[point] + self.spread[point] * moved).expand(self.shape[point])
            for point, moved in self.moved.items()
        }


def optimal_activations(
    subject: SubjectModel, prompts: Prompts, grid: PointGrid, clean: Activations
) -> Activations:
    """For every component the constant that diverges least from the model, by gradient descent.

    A component is a site of one layer, or a head of it. It is ablated alone, at all positions of
    the grid at once: a row of a forward for every component and prompt in each of the steps.

    Args:
        subject: the model.
        prompts: the train prompts, whose clean runs are ablated.
        grid: the points.
        clean: their activations in the clean run.
    """
    with torch.inference_mode(False), torch.enable_grad():
        clean = {point: h.clone() for point, h in clean.items()}
        reference = torch.log_softmax(subject.unsteered_logits(prompts.tokens), dim=-1)
        constants = ConstantActivations.at_the_mean(grid, clean)
        optimizer = torch.optim.Adam(list(constants.moved.values()), lr=LEARNING_RATE)
        n_places, n_layers, _ = grid.shape
        components = torch.cartesian_prod(
            torch.arange(n_layers), torch.arange(n_places), torch.arange(len(prompts))
        )
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            for rows in subject.chunks(len(components)):
                _accumulate(subject, prompts, grid, constants, components[rows], reference)
            optimizer.step()
        return {point: h.detach() for point, h in constants.activations().items()}


def _accumulate(
    subject: SubjectModel,
    prompts: Prompts,
    grid: PointGrid,
    constants: ConstantActivations,
    components: Tensor,
    reference: Float[Tensor, "prompt vocab"],
) -> None:
    """Gradients of the divergence of one forward's rows, each with one component ablated."""
    layers, places, chosen = components.T
    gates = torch.ones((len(components), *grid.shape))
    gates[torch.arange(len(components)), places, layers] = (~grid.included)[places, layers].float()
    points = {
        (grid.places[place].site, layer)
        for layer, place in zip(layers.tolist(), places.tolist(), strict=True)
    }
    donated = constants.activations()
    edit = Between(grid, donated, gates.to(subject.device), points, chosen.to(subject.device))
    logits = subject.logits(prompts.tokens[chosen], edit)
    divergence = kl_divergence(logits, reference[chosen.to(reference.device)]).sum()
    subject.backward(divergence / len(prompts), len(components))
