"""How a model responds to an intervention: what is stored of every prompt at every strength."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.intervention import Intervention
from methods.core.objective import Objective, kl_divergence
from methods.core.prompts import Prompts, gather
from methods.core.subject import SubjectModel

TOP_TOKENS = 10


@dataclass(frozen=True, eq=False)
class Response:
    """Outputs at the answer position, on the CPU in fp32.

    Attributes:
        beta: the strengths.
        logit_answer, logit_foil: logits of answer and foil.
        p_answer, p_foil: their probabilities.
        kl: divergence from the unsteered distribution, in nats (Eq. 7's term).
        top_ids, top_p: the most likely tokens and their probabilities.
    """

    beta: Float[Tensor, " beta"]
    logit_answer: Float[Tensor, "prompt beta"]
    logit_foil: Float[Tensor, "prompt beta"]
    p_answer: Float[Tensor, "prompt beta"]
    p_foil: Float[Tensor, "prompt beta"]
    kl: Float[Tensor, "prompt beta"]
    top_ids: Int[Tensor, "prompt beta top"]
    top_p: Float[Tensor, "prompt beta top"]

    @property
    def ld(self) -> Float[Tensor, "prompt beta"]:
        """LD = logit(answer) - logit(foil)."""
        return self.logit_answer - self.logit_foil

    def at(self, beta: float) -> int:
        """Index of a strength on the beta axis."""
        return int((self.beta - beta).abs().argmin())

    def behaviour(self, objective: Objective) -> Float[Tensor, " beta"]:
        """E_m + lambda_f F at every strength of a grid that holds each with its negative.

        A strength at which the model gives no numbers any more counts as minus infinity.
        """
        mirrored = torch.stack([(self.beta + beta).abs().argmin() for beta in self.beta])
        ld, kl = self.ld.T, self.kl.T
        values = objective.behaviour(ld, ld[mirrored], kl, kl[mirrored])
        return values.nan_to_num(nan=-torch.inf, posinf=-torch.inf)


@torch.no_grad()
def respond(
    subject: SubjectModel,
    prompts: Prompts,
    intervention: Intervention,
    beta: Float[Tensor, " beta"],
    reference: Float[Tensor, "prompt vocab"],
) -> Response:
    """Runs every prompt at every strength, as rows of common forwards.

    Args:
        subject: the model.
        prompts: prompts of the length that the intervention was made for.
        intervention: what is done to activations.
        beta: strengths.
        reference: log-probabilities of the unsteered model, a row a prompt.
    """
    n_prompts, n_beta = len(prompts), len(beta)
    prompt_of_row = torch.arange(n_prompts).repeat_interleave(n_beta)
    beta_of_row = beta.to(torch.float32).repeat(n_prompts).to(subject.device)
    chunks = []
    for rows in subject.chunks(len(prompt_of_row)):
        index = prompt_of_row[rows]
        chunk = prompts.take(index)
        logits = subject.logits(chunk.tokens, intervention.at(beta_of_row[rows]))
        chunks.append(_read(logits, chunk, reference[index.to(reference.device)]))
    columns = [
        torch.cat(parts).reshape(n_prompts, n_beta, *parts[0].shape[1:]).cpu()
        for parts in zip(*chunks, strict=True)
    ]
    return Response(beta.to(torch.float32).cpu(), *columns)


def _read(logits: Tensor, prompts: Prompts, reference: Tensor) -> tuple[Tensor, ...]:
    """Response's columns of one forward, in the order of its fields."""
    probabilities = torch.softmax(logits, dim=-1)
    top = probabilities.topk(min(TOP_TOKENS, logits.shape[-1]), dim=-1)
    return (
        gather(logits, prompts.answers),
        gather(logits, prompts.foils),
        gather(probabilities, prompts.answers),
        gather(probabilities, prompts.foils),
        kl_divergence(logits, reference),
        top.indices,
        top.values,
    )
