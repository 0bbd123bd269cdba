"""The outputs of a model under an intervention: what is stored of every prompt and strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.objective import Objective, kl_divergence
from methods.core.prompts import Prompts, gather

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

    @property
    def mass(self) -> Float[Tensor, "prompt beta"]:
        """P(answer) + P(foil)."""
        return self.p_answer + self.p_foil

    def at(self, beta: float) -> int:
        """Index of a strength on the beta axis."""
        return int((self.beta - beta).abs().argmin())

    def select(self, beta: Float[Tensor, " beta"]) -> Response:
        """The columns of the strengths nearest to `beta`."""
        index = [self.at(float(strength)) for strength in beta]
        columns = [getattr(self, field.name)[:, index] for field in fields(self)[1:]]
        return Response(self.beta[index], *columns)

    def take(self, prompts: Sequence[int]) -> Response:
        """The rows of some prompts."""
        columns = [getattr(self, field.name)[list(prompts)] for field in fields(self)[1:]]
        return Response(self.beta, *columns)

    @staticmethod
    def join(parts: Sequence[Response]) -> Response:
        """Responses of the same prompts to further strengths, side by side."""
        columns = [
            torch.cat([getattr(part, field.name) for part in parts], dim=1)
            for field in fields(Response)[1:]
        ]
        return Response(torch.cat([part.beta for part in parts]), *columns)

    @staticmethod
    def stack(parts: Sequence[Response]) -> Response:
        """Responses of further prompts to the same strengths, one below the other."""
        columns = [
            torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(Response)[1:]
        ]
        return Response(parts[0].beta, *columns)

    @staticmethod
    def of_rows(parts: Sequence[tuple[Tensor, ...]], beta: Float[Tensor, " beta"]) -> Response:
        """The response from what was read off forwards whose rows run over strengths fastest."""
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        shaped = [column.reshape(-1, len(beta), *column.shape[1:]).cpu() for column in columns]
        return Response(beta.to(torch.float32).cpu(), *shaped)

    def behaviour(self, objective: Objective) -> Float[Tensor, " beta"]:
        """E_m + lambda_f F at every strength of a grid that holds each with its negative.

        A strength at which the model gives no numbers any more counts as minus infinity.
        """
        mirrored = torch.stack([(self.beta + beta).abs().argmin() for beta in self.beta])
        ld, kl = self.ld.T, self.kl.T
        values = objective.behaviour(ld, ld[mirrored], kl, kl[mirrored])
        return values.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def read(
    logits: Float[Tensor, "row vocab"], prompts: Prompts, reference: Float[Tensor, "row vocab"]
) -> tuple[Tensor, ...]:
    """What a response holds of every row of a forward, in the order of its fields.

    Args:
        logits: of a forward.
        prompts: the prompt of every row.
        reference: log-probabilities of the unsteered model for every row.
    """
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
