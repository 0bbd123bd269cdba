"""HardConcrete, UniformGates: gates trained to keep the output with as few points as possible."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.core.corruption import Corruption, contrasts
from methods.core.gates import open_probability, sample, sample_uniform
from methods.core.hooks import Activations
from methods.core.objective import kl_divergence
from methods.core.optimal import LEARNING_RATE, ConstantActivations
from methods.core.paths import Between
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveFloat, PositiveInt, TrainingDivergedError
from methods.method import Attribution, Method, Setting

CORRUPTIONS: dict[str, Corruption] = {
    "corrupted": "counterfactual",
    "zero": "zero",
    "mean": "mean",
    "optimal": "mean",
}
"""`optimal` begins at the mean and is trained along with the gates."""


@dataclass(frozen=True)
class TrainedGates(Method):
    """What methods share that train a random gate a point.

    A gate z takes a point to z h + (1 - z) h', h as it arrives and h' from the corrupted run, zero,
    the mean, or a constant of each site and layer (and head) that is trained too. What is trained
    of a gate is one number a point, to minimise the divergence of the gated model from the model
    plus lambda_0 times the expected share of gates that are kept.

    Attributes:
        towards: what a shut gate puts in a point's place.
        lambda_0: what it costs to keep all points, in nats; one of n points may cost lambda_0 / n.
        learning_rate: Adam's, constant.
        steps: of Adam, all prompts each, with a gate of its own for every prompt and point.
        start: the number before training.
    """

    towards: Literal["corrupted", "zero", "mean", "optimal"] = "corrupted"
    lambda_0: Annotated[float, Field(ge=0)] = 1.0
    learning_rate: PositiveFloat = 0.2
    steps: PositiveInt = 40
    start: float = 2.0

    @abstractmethod
    def gates(self, number: Tensor, uniform: Tensor) -> Tensor:
        """Gates from uniform numbers in (0, 1) of a shape that `number` broadcasts to."""

    @abstractmethod
    def kept(self, number: Tensor) -> Tensor:
        """How much of each point is kept: its score, and what lambda_0 is the price of."""

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """One a step."""
        return self.steps

    @property
    def signed(self) -> bool:
        """No: a gate tells how much a point is needed."""
        return False

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """A forward and a backward a step, and a forward of the run that gates shut towards.

        Raises:
            TrainingDivergedError: if a number of the objective is none.
        """
        corruption = CORRUPTIONS[self.towards]
        (contrast,) = contrasts(subject, prompts, grid, corruption, "noising", setting.seed)
        unsteered = subject.unsteered_logits(prompts.tokens)
        reference = torch.log_softmax(unsteered, dim=-1)
        generator = torch.Generator().manual_seed(setting.seed)
        with torch.enable_grad():
            number = torch.full(grid.shape, self.start, device=subject.device, requires_grad=True)
            optimizer = torch.optim.Adam([number], lr=self.learning_rate)
            constants: ConstantActivations | None = None
            if self.towards == "optimal":
                clean = contrast.receiver.activations(subject, grid.site_layers)
                constants = ConstantActivations.at_the_mean(grid, clean)
                trained = list(constants.moved.values())
                optimizer.add_param_group({"params": trained, "lr": LEARNING_RATE})

            def donated() -> Activations:
                return contrast.donated if constants is None else constants.activations()

            for step in range(self.steps):
                uniform = torch.rand((len(prompts), *grid.shape), generator=generator)
                uniform = uniform.clamp(1e-6, 1 - 1e-6).to(subject.device)
                optimizer.zero_grad(set_to_none=True)
                loss = self._loss(subject, prompts, grid, donated, number, uniform, reference)
                if not bool(torch.isfinite(loss)):
                    raise TrainingDivergedError(f"Training diverged in step {step + 1}: {loss}.")
                optimizer.step()
        found = number.detach()
        return Attribution(self.kept(found), extras={"log_alpha": found})

    def _loss(
        self,
        subject: SubjectModel,
        prompts: Prompts,
        grid: PointGrid,
        donated: Callable[[], Activations],
        number: Float[Tensor, "place layer position"],
        uniform: Float[Tensor, "prompt place layer position"],
        reference: Float[Tensor, "prompt vocab"],
    ) -> Float[Tensor, ""]:
        """Gradients of the divergence and of the expected share of kept gates; gives their sum."""
        included = grid.included.clone().to(number.device)
        total = self.lambda_0 * self.kept(number)[included].mean()
        subject.backward(total, 0)
        total = total.detach()
        for rows in subject.chunks(len(prompts)):
            gates = torch.where(included, self.gates(number, uniform[rows]), 1.0)
            edit = Between(grid, donated(), gates, grid.site_layers, rows)
            divergence = kl_divergence(subject.logits(prompts.tokens[rows], edit), reference[rows])
            share = divergence.sum() / len(prompts)
            subject.backward(share, len(divergence))
            total = total + share.detach()
        return total


@dataclass(frozen=True)
class HardConcrete(TrainedGates):
    """The score of a point is the probability that its gate is not shut.

    Gates are hard-concrete: exactly 0 or 1 with some probability; log alpha is trained (see
    `TrainedGates`), stored beside the scores, and says 2 before: shut with probability 0.03. Scores
    say what has to stay, and have no sign. They steer as untrained scores do: what was trained is
    the mask, not an intervention on Psi, so beta is tuned.

    Source: 'Learning Sparse Neural Networks through L0 Regularization' (Louizos et al. 2018);
    'Low-Complexity Probing via Finding Subnetworks' (Cao et al. 2021) for models; 'Finding
    Transformer Circuits with Edge Pruning' (Bhaskar et al. 2024) for the divergence as the loss;
    'Optimal ablation for interpretability' (Li and Janson 2024) for `towards: optimal`.
    """

    def gates(self, number: Tensor, uniform: Tensor) -> Tensor:
        """Stretched and cut sigmoids."""
        return sample(number, uniform)

    def kept(self, number: Tensor) -> Tensor:
        """The probability that a gate is not 0."""
        return open_probability(number)


@dataclass(frozen=True)
class UniformGates(TrainedGates):
    """The score of a point is theta, how far its gate is open on average.

    A gate is 1 or 0 but within a window of width theta (1 - theta), where it is uniform: all of its
    gradient comes from there, unbiased. The log odds of theta are trained as HardConcrete's log
    alpha is (see `TrainedGates`) and begin at 1. Scores have no sign, and steer with beta tuned.

    Source: 'Optimal ablation for interpretability' (Li and Janson 2024), uniform gradient sampling;
    there at edges, here at points.
    """

    start: float = 1.0

    def gates(self, number: Tensor, uniform: Tensor) -> Tensor:
        """0, 1, or between them within the window."""
        return sample_uniform(number, uniform)

    def kept(self, number: Tensor) -> Tensor:
        """Theta, the expected gate."""
        return torch.sigmoid(number)
