"""What is known of a planted model: which points carry the difference between two prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["causal", "backup", "decoy", "cancelling"]
"""`causal`: patching it alone changes the logit difference. `backup`: only together with another
point. `decoy`: it differs between the prompts and nothing reads it. `cancelling`: what reads it
gives the same for both prompts, though not in between."""
CAUSAL: tuple[Kind, ...] = ("causal", "backup")


@dataclass(frozen=True)
class Part:
    """An output of attention or of an MLP that differs between clean and corrupted prompt.

    Attributes:
        site: "attn_out" or "mlp_out".
        layer: from 0.
        position: of the prompt's tokens, BOS 0.
        kind: what it does.
        head: which head of attention writes it; None for an MLP.
        sign: of the change in LD when it is patched from the corrupted run, clean minus patched:
            1 where it favours the answer, -1 the foil, 0 where there is no change.
    """

    site: str
    layer: int
    position: int
    kind: Kind
    head: int | None = None
    sign: int = 0


@dataclass(frozen=True)
class Carried:
    """A stretch of the residual stream that carries the difference from one part to the next.

    Time counts what was added to the stream: 2 layer is attention, 2 layer + 1 the MLP, -1 the
    embedding.

    Attributes:
        position: of the prompt's tokens, BOS 0.
        written: when it is written.
        read: when it is last read; 2 n_layers for the unembedding.
    """

    position: int
    written: int
    read: int


@dataclass(frozen=True)
class Circuit:
    """What carries the difference between the prompts of one counterfactual.

    Attributes:
        family: of the model, one of `tasks.planted.FAMILIES`; with `-trained` behind it where the
            model was trained.
        parts: the causal ones, and those that are planted to be taken for such.
        carried: where the residual stream carries it.
    """

    family: str
    parts: tuple[Part, ...]
    carried: tuple[Carried, ...] = ()
