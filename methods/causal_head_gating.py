"""CausalHeadGating: gates on heads, fitted under pressure to open and under pressure to shut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import contrasts
from methods.core.paths import Between
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts, gather
from methods.core.subject import SubjectModel
from methods.core.training import PositiveFloat, PositiveInt
from methods.method import Attribution, Method, Setting

LARGEST = 4.0
"""What log odds are cut off at: from farther out, a gate would not come back."""


@dataclass(frozen=True)
class CausalHeadGating(Method):
    """The score of a head is G+ + G- - 1: 1 if it is needed, -1 if it is in the way, 0 if neither.

    A gate G = sigmoid(g) takes a head's z to G z, at all positions alike. The loss is the answer's
    mean negative log-likelihood minus lambda times the mean over heads of g, which is kept within
    -4 and 4. First g is fitted with lambda = 0; from there once more with lambda > 0, which opens
    every gate that does no harm (G+), and once with lambda < 0, which shuts every gate that is not
    needed (G-). All positions of a head have one score.

    Source: 'Causal Head Gating: A Framework for Interpreting Roles of Attention Heads in
    Transformers' (Nam et al. 2025), whose fits begin at random gates, take 500 steps, and cut g
    off in the mean alone.

    Attributes:
        strength: the magnitude of lambda, in nats for one unit of all heads' log odds.
        learning_rate: Adam's, constant, in log odds; they begin at 0.
        steps: of Adam in each of the three fits, all prompts each.
    """

    sites: ClassVar[frozenset[Site]] = frozenset({Site.Z, Site.O})
    """What a head adds to the stream; its gate is the same at either."""

    strength: PositiveFloat = 0.1
    learning_rate: PositiveFloat = 1.0
    steps: PositiveInt = 40

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """One a step."""
        return 3 * self.steps

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """A forward and a backward a step."""
        (contrast,) = contrasts(subject, prompts, grid, "zero", "noising", setting.seed)
        # Tensors that were made within inference_mode cannot be saved for a backward.
        answers, included = prompts.answers.clone(), grid.included.clone().to(subject.device)

        def fitted(start: Tensor, pressure: float) -> Tensor:
            log_odds = start.clone().requires_grad_()
            optimizer = torch.optim.Adam([log_odds], lr=self.learning_rate)
            for _ in range(self.steps):
                optimizer.zero_grad(set_to_none=True)
                subject.backward(-pressure * log_odds.mean(), 0)
                for rows in subject.chunks(len(prompts)):
                    gates = torch.where(included, torch.sigmoid(log_odds), 1.0)[None]
                    edit = Between(grid, contrast.donated, gates, grid.site_layers, rows)
                    logits = subject.logits(prompts.tokens[rows], edit)
                    loss = negative_log_likelihood(logits, answers[rows]) / len(prompts)
                    subject.backward(loss, len(logits))
                optimizer.step()
                with torch.no_grad():
                    log_odds.clamp_(-LARGEST, LARGEST)
            return log_odds.detach()

        with torch.enable_grad():
            start = torch.zeros((*grid.shape[:2], 1), device=subject.device)
            free = fitted(start, 0.0)
            opened, shut = (fitted(free, sign * self.strength) for sign in (1, -1))
        scores = torch.sigmoid(opened) + torch.sigmoid(shut) - 1
        extras = {name: torch.sigmoid(one) for name, one in (("opened", opened), ("shut", shut))}
        return Attribution(
            scores.expand(grid.shape).clone(),
            extras={name: one.expand(grid.shape).clone() for name, one in extras.items()},
        )


def negative_log_likelihood(
    logits: Float[Tensor, "row vocab"], answers: Tensor
) -> Float[Tensor, ""]:
    """-log P(answer), summed over rows."""
    return -gather(torch.log_softmax(logits, dim=-1), answers).sum()
