"""HardConcrete: gates trained to keep the model's output with as few points as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.core.corruption import Corruption, contrasts
from methods.core.gates import open_probability, sample
from methods.core.hooks import Activations
from methods.core.objective import kl_divergence
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
}


@dataclass(frozen=True)
class HardConcrete(Method):
    """The score of a point is the probability that its gate is not shut.

    A gate z takes a point to z h + (1 - z) h', h as it arrives and h' from the corrupted
    run, zero, or the mean. Gates are random and exactly 0 or 1 with some probability; what is
    trained is log alpha, one number a point, to minimise the divergence of the gated model from
    the model plus lambda_0 times the expected share of open gates. Scores say what has to stay, and
    have no sign. They steer as untrained scores do: what was trained is the mask, not an
    intervention on Psi, so beta is tuned. log alpha is stored beside them.

    Source: 'Learning Sparse Neural Networks through L0 Regularization' (Louizos et al. 2018);
    'Low-Complexity Probing via Finding Subnetworks' (Cao et al. 2021) for models; 'Finding
    Transformer Circuits with Edge Pruning' (Bhaskar et al. 2024) for the divergence as the loss.

    Attributes:
        towards: what a shut gate puts in a point's place.
        lambda_0: what it costs to keep all points, in nats; one of n points may cost lambda_0 / n.
        learning_rate: Adam's, constant.
        steps: of Adam, all prompts each, with a gate of its own for every prompt and point.
        start: log alpha before training; at 2 a gate is shut with probability 0.03.
    """

    towards: Literal["corrupted", "zero", "mean"] = "corrupted"
    lambda_0: Annotated[float, Field(ge=0)] = 1.0
    learning_rate: PositiveFloat = 0.2
    steps: PositiveInt = 40
    start: float = 2.0

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
            log_alpha = torch.full(
                grid.shape, self.start, device=subject.device, requires_grad=True
            )
            optimizer = torch.optim.Adam([log_alpha], lr=self.learning_rate)
            for step in range(self.steps):
                uniform = torch.rand((len(prompts), *grid.shape), generator=generator)
                gates = uniform.clamp(1e-6, 1 - 1e-6).to(subject.device)
                optimizer.zero_grad(set_to_none=True)
                loss = self._loss(
                    subject, prompts, grid, contrast.donated, log_alpha, gates, reference
                )
                if not bool(torch.isfinite(loss)):
                    raise TrainingDivergedError(f"Training diverged in step {step + 1}: {loss}.")
                optimizer.step()
        found = log_alpha.detach()
        return Attribution(open_probability(found), extras={"log_alpha": found})

    def _loss(
        self,
        subject: SubjectModel,
        prompts: Prompts,
        grid: PointGrid,
        donated: Activations,
        log_alpha: Float[Tensor, "place layer position"],
        uniform: Float[Tensor, "prompt place layer position"],
        reference: Float[Tensor, "prompt vocab"],
    ) -> Float[Tensor, ""]:
        """Gradients of the divergence and of the expected share of open gates; gives their sum."""
        included = grid.included.clone().to(log_alpha.device)
        total = self.lambda_0 * open_probability(log_alpha)[included].mean()
        subject.backward(total, 0)
        total = total.detach()
        for rows in subject.chunks(len(prompts)):
            gates = torch.where(included, sample(log_alpha, uniform[rows]), 1.0)
            edit = Between(grid, donated, gates, grid.site_layers, rows)
            divergence = kl_divergence(subject.logits(prompts.tokens[rows], edit), reference[rows])
            share = divergence.sum() / len(prompts)
            subject.backward(share, len(divergence))
            total = total + share.detach()
        return total
