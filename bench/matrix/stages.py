"""What is measured of a fitted intervention, as a matrix says it: the stages of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from bench.matrix.fields import STRICT, Choice, Count, Number, Weight, Whole, choices, no_truth
from bench.store.records import MAIN_K, MAIN_PRICE


class _Strict(BaseModel):
    model_config = STRICT


class Sweep(_Strict):
    """The beta sweep for display: on the first prompts of train and test."""

    points: Annotated[Whole, Field(ge=3, le=10_001)] = 21
    prompts: Count = 1
    reach: Annotated[Weight, Field(gt=0)] = 2.0
    """The largest |beta| of the sweep, in multiples of the strength that steers (|beta*| or 1)."""

    @model_validator(mode="after")
    def _odd(self) -> Sweep:
        if self.points % 2 == 0:
            raise ValueError(f"points has to be odd, so that beta = 0 is one; got {self.points}")
        return self


class Sparsity(_Strict):
    """Sparsity curves (`bench.evaluation.sparsity`): at how many sizes k; 0 leaves them out.

    Each size costs one tuning of beta: about 22 forward rows a train prompt, 2 a test prompt.
    """

    points: Number = 0


Price = Annotated[Weight, Field(gt=0)]
"""A divergence in nats: -F of Eq. 7."""


FEW_PROMPTS = 3

PRICE_CURVE = tuple(0.03 * 100 ** (step / 6) for step in range(7))
"""Prices on train of the price curve: 0.03 to 3 nats."""


def strengths_a_decade(n_prompts: int) -> int:
    """At how many |beta| a decade beta* is looked for, on so many train prompts.

    A curve of few prompts is jagged, and a strength costs little there.
    """
    return 4 if n_prompts <= FEW_PROMPTS else 2


class Prices(_Strict):
    """Divergences at which all methods are compared (`bench.evaluation.price`)."""

    at: list[Price] = [0.1, MAIN_PRICE, 1.0]
    """E_0 is measured on every split at the strength that costs so much on train."""
    curve: bool = True
    """The price curve: seven prices from 0.03 to 3 nats, on test."""


class Localisation(_Strict):
    """How well the few strongest points of a method steer (`bench.evaluation.localisation`)."""

    k: list[Count] = [1, 4, 16, 64]
    """Numbers of points; none leave it out."""
    price: Price = MAIN_PRICE


class Retrained(_Strict):
    """Scalars trained anew at a method's few strongest points, and at matched ones
    (`bench.evaluation.retrained`)."""

    k: list[Count] = []
    """Numbers of points; none leave it out."""
    draws: Number = 3
    """Of each kind of matched support."""
    steps: Count = 10
    train: Count = 4
    """Prompts to train on."""
    price: Price = MAIN_PRICE


class Circuit(_Strict):
    """How much of a task the nodes do that a method scores highest (`bench.evaluation.circuit`)."""

    over_positions: Literal["sum", "sum_of_sizes"] = "sum"
    """A node's score: the sum of its points' scores over positions, or of their sizes."""
    draws: Annotated[Number, Field(le=10_000)] = 30
    """Random circuits that one is tested against; a test of fewer than 29 cannot tell."""
    share: Annotated[float, Field(gt=0, lt=1), BeforeValidator(no_truth)] = 0.1
    """Of the nodes, in the circuits that are tested."""


ONE_POINT = (0.5, 1.0)
"""|beta| of one-point steering: each with both signs."""


class OnePoint(_Strict):
    """How far each point's own scalar moves the model, and what scores say of it
    (`bench.evaluation.one_point`)."""

    prompts: Annotated[Whole, Field(ge=2)] = 6
    """Of test. Four patched runs a point and prompt, shared by a task's methods."""


class Sanity(_Strict):
    """Maps of a model whose weights are permuted, and of other prompts' answers
    (`bench.evaluation.sanity`)."""

    depths: Count = 3
    """In how many steps weights are permuted, from the last layer down to the first."""
    prompts: Count = 2
    """Of train, on which a method is fitted again."""
    positions: Count = 4
    """At which a method that runs every point is fitted again."""
    trained: bool = False
    """Whether trained methods are fitted again too: to other prompts' answers alone."""


class Specificity(_Strict):
    """What the fitted intervention does where it should do nothing
    (`bench.evaluation.specificity`)."""

    prompts: Count = 4
    """Of every other task's test split."""
    windows: Count = 8
    """Of the neutral text, as long as a prompt."""
    tasks: Annotated[list[Choice], BeforeValidator(choices)] = []
    """Other tasks; none: those of the matrix."""


class Candidate(_Strict):
    """A setting of trained methods that is tried; what is not named stays as it is."""

    learning_rate: Annotated[Weight, Field(gt=0)] | None = None
    epochs: Count | None = None
    lambda_m: Weight | None = None
    lambda_f: Weight | None = None


class Stages(NamedTuple):
    """What is measured of a fitted intervention."""

    sweep: Sweep | None
    sparsity: Sparsity
    prices: Prices
    localisation: Localisation
    retrained: Retrained
    circuit: Circuit | None
    smallest_k: bool
    sanity: Sanity | None = None
    specificity: Specificity | None = None
    verdicts_alone: bool = False
    """Whether neither beta = 1 nor beta* are measured, nor how many parameters count."""
    select: Sequence[Candidate] = ()
    """Settings that a trained method is tried with."""
    one_point: OnePoint | None = None

    @property
    def main_price(self) -> float:
        """The price at which methods are ranked, or the first there is."""
        at = self.prices.at
        return MAIN_PRICE if MAIN_PRICE in at or not at else at[0]

    def of_a_method(self, trained: bool) -> Stages:
        """What is measured of a method: weights are permuted for those that train nothing."""
        skipped = trained and not (self.sanity and self.sanity.trained)
        return self._replace(sanity=None) if skipped else self

    def of_a_control(self, draw: int, shuffled: bool, brief: bool) -> Stages:
        """What is measured of a control's draw: after the first, what verdicts need.

        Further draws are there for the spread of what chance reaches: at the price at which methods
        are ranked, and at one number of points. Scalars are trained anew at the random supports
        that all methods share; scores at random places would be more of the same.

        Args:
            draw: which one.
            shuffled: whether it has the scores of a method.
            brief: see `Controls`.
        """
        anew = self.retrained if draw < self.retrained.draws and not shuffled else Retrained()
        own = self._replace(retrained=anew, sanity=None, specificity=None)
        if not draw and not (brief and shuffled):
            return own
        at, k = self.prices.at, self.localisation.k
        return own._replace(
            prices=Prices(at=[self.main_price] if at else [], curve=False),
            localisation=self.localisation.model_copy(update={"k": [MAIN_K] if MAIN_K in k else k}),
            circuit=self.circuit and self.circuit.model_copy(update={"draws": 0}),
            one_point=None,
            smallest_k=False,
            sweep=None,
            verdicts_alone=brief and bool(at),
        )
