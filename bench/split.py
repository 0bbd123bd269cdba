"""The prompts of a split, the unsteered model on them, and its response to an intervention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bench.response import Response, read
from methods.core.intervention import Intervention
from methods.core.objective import effectiveness
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
    """

    name: str
    prompts: Prompts
    reference: Float[Tensor, "prompt vocab"]
    unsteered: Response

    @staticmethod
    def of(name: str, prompts: Prompts, subject: SubjectModel) -> Split:
        """Measures the unsteered model.

        Raises:
            NonFiniteLogitsError: if it gives NaN or infinite logits.
        """
        logits = subject.unsteered_logits(prompts.tokens)
        reference = torch.log_softmax(logits, dim=-1)
        unsteered = Response.of_rows([read(logits, prompts, reference)], torch.zeros(1))
        return Split(name, prompts, reference, unsteered)

    @property
    def unsteered_e_0(self) -> float:
        """E_0 of the unsteered model: minus the mean of |LD|."""
        ld = self.unsteered.ld[:, 0]
        return float(effectiveness(ld, ld, 0.0))

    def take(self, prompts: Sequence[int]) -> Split:
        """Some of the prompts, in that order."""
        reference = self.reference[list(prompts)]
        return Split(self.name, self.prompts.take(prompts), reference, self.unsteered.take(prompts))


@torch.no_grad()
def respond(
    subject: SubjectModel,
    split: Split,
    intervention: Intervention,
    beta: Float[Tensor, " beta"],
) -> Response:
    """The response of every prompt at every strength, from rows of common forwards.

    At beta = 0 an intervention leaves the model as it is, so that column is the unsteered
    response and is not run again.

    Args:
        subject: the model.
        split: prompts of the length that the intervention was made for.
        intervention: what is done to activations.
        beta: strengths, in any order.
    """
    steered = beta[beta != 0]
    found = [split.unsteered]
    if len(steered):
        found.append(_respond_by_rows(subject, split, intervention, steered))
    return Response.join(found).select(beta)


def _respond_by_rows(
    subject: SubjectModel, split: Split, intervention: Intervention, beta: Tensor
) -> Response:
    """Runs a row a prompt and strength."""
    prompt_of_row = torch.arange(len(split.prompts)).repeat_interleave(len(beta))
    beta_of_row = beta.to(torch.float32).repeat(len(split.prompts)).to(subject.device)
    parts = []
    for rows in subject.chunks(len(prompt_of_row)):
        index = prompt_of_row[rows]
        chunk = split.prompts.take(index)
        logits = subject.logits(chunk.tokens, intervention.at(beta_of_row[rows]))
        reference = split.reference[index.to(split.reference.device)]
        parts.append(read(logits, chunk, reference))
    return Response.of_rows(parts, beta)
