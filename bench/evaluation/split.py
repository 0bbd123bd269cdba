"""The prompts of a split, the unsteered model on them, and its response to an intervention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bench.evaluation.response import Response, read
from methods.core.intervention import Intervention
from methods.core.objective import effectiveness
from methods.core.prefix import Prefix
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel


@dataclass(frozen=True, eq=False)
class Split:
    """The prompts of a split and the unsteered model on them.

    Attributes:
        name: train, test or shifted.
        prompts: on the model's device.
        reference: log-probabilities of the unsteered model.
        unsteered: its response, at the one strength 0.
        prefix: all positions but the last, which a run may begin behind.
    """

    name: str
    prompts: Prompts
    reference: Float[Tensor, "prompt vocab"]
    unsteered: Response
    prefix: Prefix

    @staticmethod
    def of(name: str, prompts: Prompts, subject: SubjectModel) -> Split:
        """Measures the unsteered model.

        Raises:
            NonFiniteLogitsError: if it gives NaN or infinite logits.
        """
        logits = subject.unsteered_logits(prompts.tokens, mask=prompts.mask)
        reference = torch.log_softmax(logits, dim=-1)
        unsteered = Response.of_rows([read(logits, prompts, reference)], torch.zeros(1))
        prefix = Prefix.of(subject, prompts, prompts.n_positions - 1)
        return Split(name, prompts, reference, unsteered, prefix)

    @property
    def unsteered_e_0(self) -> float:
        """E_0 of the unsteered model: minus the mean of |LD|."""
        ld = self.unsteered.ld[:, 0]
        return float(effectiveness(ld, ld, 0.0))

    def take(self, prompts: Sequence[int]) -> Split:
        """Some of the prompts, in that order."""
        rows = list(prompts)
        return Split(
            self.name,
            self.prompts.take(rows),
            self.reference[rows],
            self.unsteered.take(rows),
            self.prefix.take(rows),
        )


@torch.no_grad()
def respond(
    subject: SubjectModel,
    split: Split,
    intervention: Intervention,
    beta: Float[Tensor, " beta"],
    known: Response | None = None,
) -> Response:
    """The response of every prompt at every strength, from rows of common forwards.

    At beta = 0 an intervention leaves the model as it is, so that column is the unsteered
    response and is not run again.

    Args:
        subject: the model.
        split: prompts of the length that the intervention was made for.
        intervention: what is done to activations.
        beta: strengths, in any order.
        known: the response of the same prompts to strengths that need not be run again.
    """
    found = [split.unsteered if known is None else Response.join([split.unsteered, known])]
    steered = beta[~torch.isin(beta.to(torch.float32), found[0].beta)]
    if len(steered):
        found.append(_respond_by_rows(subject, split, intervention, steered))
    return Response.join(found).select(beta)


def _respond_by_rows(
    subject: SubjectModel, split: Split, intervention: Intervention, beta: Tensor
) -> Response:
    """Runs a row a prompt and strength."""
    device = split.reference.device
    prompt_of_row = torch.arange(len(split.prompts), device=device).repeat_interleave(len(beta))
    beta_of_row = beta.to(torch.float32).repeat(len(split.prompts)).to(device)
    prefix = split.prefix.until(intervention.first_position)
    parts = []
    for rows in subject.chunks(len(prompt_of_row)):
        index = prompt_of_row[rows]
        logits = prefix.steer(subject, index, intervention, beta_of_row[rows])
        parts.append(read(logits, split.prompts.take(index), split.reference[index]))
    return Response.of_rows(parts, beta)
