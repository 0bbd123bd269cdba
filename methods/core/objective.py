"""The objective of an intervention: effectiveness, faithfulness, minimality (Eq. 6-9).

Every term is at most 0 and larger is better. Logits are fp32 whatever the model's dtype.

Source: 'Activation Scaling for Steering and Interpreting Language Models' (Findings of EMNLP 2024),
Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def effectiveness(
    ld_plus: Float[Tensor, "*batch prompt"], ld_minus: Float[Tensor, "*batch prompt"], margin: float
) -> Float[Tensor, " *batch"]:
    """E_m, Eq. 6: hinge of the logit differences at +beta (answer ahead) and -beta (foil ahead).

    Args:
        ld_plus: logit(answer) - logit(foil) of every prompt at +beta.
        ld_minus: the same at -beta.
        margin: m; the paper's E_0 has m = 0.
    """
    hinges = torch.relu(margin - ld_plus) + torch.relu(margin + ld_minus)
    return -hinges.mean(dim=-1)


def faithfulness(
    kl_plus: Float[Tensor, "*batch prompt"], kl_minus: Float[Tensor, "*batch prompt"]
) -> Float[Tensor, " *batch"]:
    """F, Eq. 7: minus the mean over prompts of both signs' divergences, summed (nats)."""
    return -(kl_plus + kl_minus).mean(dim=-1)


def minimality(theta: Float[Tensor, " parameter"], p: float = 1) -> Float[Tensor, ""]:
    """M_p, Eq. 8: minus the p-norm of the parameters."""
    norm: Tensor = torch.linalg.vector_norm(theta, ord=p)
    return -norm


def kl_divergence(
    logits: Float[Tensor, "row vocab"], reference: Float[Tensor, "row vocab"]
) -> Float[Tensor, " row"]:
    """KL(softmax(logits) || reference) in nats over the whole vocabulary, intervened first.

    Args:
        logits: of the intervened run.
        reference: log-probabilities of the unmodified run.
    """
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return (log_probabilities.exp() * (log_probabilities - reference)).sum(dim=-1)


@dataclass(frozen=True)
class Objective:
    """Psi, Eq. 9: E_m + lambda_f F + lambda_m M_1, maximised.

    Attributes:
        margin: m of E_m, in logits.
        lambda_f: weight of faithfulness.
        lambda_m: weight of minimality.
    """

    margin: float = 1.0
    lambda_f: float = 1.0
    lambda_m: float = 1e-3

    def behaviour(
        self,
        ld_plus: Float[Tensor, "*batch prompt"],
        ld_minus: Float[Tensor, "*batch prompt"],
        kl_plus: Float[Tensor, "*batch prompt"],
        kl_minus: Float[Tensor, "*batch prompt"],
    ) -> Float[Tensor, " *batch"]:
        """E_m + lambda_f F: the part of Psi that the model's outputs decide."""
        return effectiveness(ld_plus, ld_minus, self.margin) + self.lambda_f * faithfulness(
            kl_plus, kl_minus
        )
