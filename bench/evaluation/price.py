"""Strength at a price: how well an intervention steers when it may change the model only so much.

The price of an intervention at strength beta is -F (Eq. 7): the divergence of both signs from the
unsteered model, in nats, a mean over prompts. Methods that are each tuned for themselves pay
different prices, so their E_0 cannot be compared; at one price it can. The strength is chosen on
train alone:

- B(c) are the strengths from 0 up to the first |beta| whose price exceeds c. Neither E_0 nor the
  price has to grow with |beta|, hence 'the first'.
- beta_c is the strength of B(c) with the largest E_0, 0 (the unsteered model) included; of equal
  ones the smallest.

Strengths are tried at |beta| = 10^(k/4) from below, in units of 1 / max|alpha|. The largest one
that is affordable is then found by interpolating the price as a power of |beta| until it is within
1 % of c, and the largest E_0 by parabolas through the strengths around the best one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bench.evaluation.response import Response
from bench.evaluation.sparsity import area
from bench.evaluation.split import Split, respond
from bench.matrix.schema import PRICE_CURVE
from bench.store.cells import Tensors
from bench.store.records import PriceCurveRecord, PriceRecord
from methods.core.intervention import Intervention
from methods.core.objective import effectiveness, faithfulness
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel

STEPS_PER_DECADE = 4
STEPS = range(-8, 9)
"""|beta| = 10^(k/4) for these k, in units of 1 / max|alpha|."""
FIRST_STEP = -4
"""Where the search starts; smaller strengths are run only where this one costs more than a tenth of
the price."""
ROWS_AT_ONCE = 16
"""Fewer rows in a forward do not take less time (`bench.evaluation.rows`)."""
FROM_A_GUESS = 4
"""How far below the guessed limit the search starts: there it costs about a sixteenth."""
CLOSE = 0.99
"""Share of a price that the largest affordable strength has to pay at least."""
MOST_TRIES = 12
"""Interpolations of one price."""
WORTH_TRYING = 0.01
"""In logits: a parabola that promises less is not followed."""
MOST_PARABOLAS = 2
TRAINED_RANGE = (0.5, 2.0)
"""|beta| of a trained intervention beyond which a result is marked as extrapolated."""


@dataclass(eq=False)
class PriceSearch:
    """Chooses strengths of one intervention; what was run for one price is known to the next.

    Attributes:
        subject: the model.
        train: the split that strengths are chosen on.
        intervention: what is done to activations.
        both_signs: whether beta may be negative. What is trained has its sign.
        known: responses of the train split that were run before, at strengths and their negatives.
        guess: about the largest |beta| that is affordable; the search starts below it.
    """

    subject: SubjectModel
    train: Split
    intervention: Intervention
    both_signs: bool = True
    known: Response | None = None
    guess: float | None = None
    _responses: list[Response] = field(default_factory=list, init=False)
    _price: dict[float, float] = field(default_factory=dict, init=False)
    _e_0: dict[float, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._e_0[0.0] = self.train.unsteered_e_0
        self._keep(self.train.unsteered if self.known is None else self.known)

    @property
    def response(self) -> Response:
        """Of the train split to everything that was run."""
        return Response.join(self._responses)

    def at(self, price: float) -> PriceRecord:
        """The strength of the largest E_0 on train that costs at most `price`.

        Args:
            price: in nats.
        """
        limit, reached = self.limit(price)
        for _ in range(MOST_PARABOLAS):
            best = self._best(limit)
            tip = self._tip(best, limit)
            if tip is None:
                break
            self._run(tip)
        best = self._best(limit)
        return PriceRecord(
            price=price,
            beta=best,
            paid=self._price.get(abs(best), 0.0),
            E_0=self._e_0[best],
            reached=reached,
        )

    def limit(self, price: float) -> tuple[float, bool]:
        """The largest |beta| of B(c), and whether any strength costs as much as the price."""
        self._climb(price)
        for _ in range(MOST_TRIES):
            sizes = sorted(self._price)
            dear = next((at for at, size in enumerate(sizes) if self._price[size] > price), None)
            if dear is None:
                return sizes[-1], False
            below = sizes[dear - 1] if dear else 0.0
            if dear and self._price[below] >= CLOSE * price:
                break
            self._run(self._between(below, sizes[dear], price))
        sizes = sorted(self._price)
        dear = next(at for at, size in enumerate(sizes) if self._price[size] > price)
        return (sizes[dear - 1] if dear else 0.0), True

    def _climb(self, price: float) -> None:
        """Runs the strengths of the grid from below up to the first that costs more."""
        unit = unit_of(self.intervention)
        sizes = [unit * 10 ** (step / STEPS_PER_DECADE) for step in STEPS]
        first = STEPS.index(FIRST_STEP)
        if self.guess is not None:
            below = [place for place, size in enumerate(sizes) if size * FROM_A_GUESS <= self.guess]
            first = max(below, default=0)
        while self._run(sizes[first]) > price / 10 and first > 0:
            first = max(0, first - STEPS_PER_DECADE // 2)
        at_once = max(1, ROWS_AT_ONCE // (2 * len(self.train.prompts)))
        for place in range(first, len(sizes), at_once):
            if self._run(*sizes[place : place + at_once]) > price:
                return

    def _between(self, below: float, above: float, price: float) -> float:
        """The |beta| between two at which the price is about `price`, as if a power of |beta|."""
        high = self._price[above]
        target = math.log(price * (1 + CLOSE) / 2)
        middle = math.sqrt(below * above) if below else above / 10
        if not math.isfinite(high):
            return middle
        if not below:
            return above * math.exp((target - math.log(high)) / 2)  # quadratic around 0
        low = self._price[below]
        if low <= 0:
            return middle
        share = (target - math.log(low)) / (math.log(high) - math.log(low))
        share = min(max(share, 0.05), 0.95)
        return math.exp(math.log(below) + share * math.log(above / below))

    def _best(self, limit: float) -> float:
        """The affordable strength of the largest E_0; of equal ones the smallest, then +."""
        affordable = [beta for beta in self._e_0 if abs(beta) <= limit]
        return max(affordable, key=lambda beta: (self._e_0[beta], -abs(beta), beta))

    def _tip(self, best: float, limit: float) -> float | None:
        """|beta| of the tip of the parabola around the best strength; None if it promises nothing.

        The parabola is over log |beta|, through the best strength and its neighbours of the same
        sign, or through the three largest where the best one is the largest that is affordable.
        """
        if best == 0:
            return None
        sign = math.copysign(1.0, best)
        sizes = sorted(size for size in self._price if size <= limit)
        place = min(max(sizes.index(abs(best)), 1), len(sizes) - 2)
        if place < 1:
            return None
        near = sizes[place - 1 : place + 2]
        x, y = np.log(near), np.array([self._e_0[sign * size] for size in near])
        if not np.isfinite(y).all():
            return None
        a, b, c = np.polyfit(x, y, 2)
        if not a < 0:
            return None
        tip = float(-b / (2 * a))
        promised = float(a * tip**2 + b * tip + c)
        if not x[0] < tip < x[2] or promised < self._e_0[best] + WORTH_TRYING:
            return None
        return math.exp(tip)

    def _run(self, *sizes: float) -> float:
        """The largest price of some strengths, which are run with their negatives unless known."""
        single = [float(np.float32(size)) for size in sizes]  # as they are run
        new = [sign * size for size in single if size not in self._price for sign in (1, -1)]
        if new:
            self._keep(respond(self.subject, self.train, self.intervention, torch.tensor(new)))
        return max(self._price[size] for size in single)

    def _keep(self, response: Response) -> None:
        self._responses.append(response)
        for beta in response.beta[response.beta > 0].tolist():
            plus, minus = response.at(beta), response.at(-beta)
            ld, kl = response.ld, response.kl
            price = -float(faithfulness(kl[:, plus], kl[:, minus]))
            self._price[beta] = price if math.isfinite(price) else math.inf
            for sign, (one, other) in ((1, (plus, minus)), (-1, (minus, plus))):
                if sign > 0 or self.both_signs:
                    e_0 = float(effectiveness(ld[:, one], ld[:, other], 0.0))
                    self._e_0[sign * beta] = e_0 if math.isfinite(e_0) else -math.inf


def strengths_at(search: PriceSearch, prices: Sequence[float], trained: bool) -> list[PriceRecord]:
    """The strengths chosen for some prices, as they are stored.

    Args:
        search: of the intervention.
        prices: in nats.
        trained: whether the intervention was trained, at beta = 1.
    """
    found = [search.at(price) for price in sorted(set(prices))]
    low, high = TRAINED_RANGE
    return [
        one.model_copy(update={"extrapolated": trained and not low <= abs(one.beta) <= high})
        for one in found
    ]


def price_curve(search: PriceSearch, test: Split) -> tuple[PriceCurveRecord, Tensors]:
    """E_0 on test at strengths chosen for the prices of `PRICE_CURVE`, and what they cost there.

    Returns:
        The record, and per test prompt `price_curve.ld` and `price_curve.kl` (prompt, price, sign)
        at +beta and -beta.
    """
    chosen = [search.at(price) for price in PRICE_CURVE]
    beta = torch.tensor([sign * strength.beta for strength in chosen for sign in (1, -1)])
    response = respond(search.subject, test, search.intervention, beta)
    ld, kl = (values.reshape(-1, len(PRICE_CURVE), 2) for values in (response.ld, response.kl))
    e_0 = effectiveness(ld[..., 0].T, ld[..., 1].T, 0.0).tolist()
    record = PriceCurveRecord(
        split=test.name,
        price=list(PRICE_CURVE),
        beta=[strength.beta for strength in chosen],
        E_0=e_0,
        paid=(-faithfulness(kl[..., 0].T, kl[..., 1].T)).tolist(),
        reached=[strength.reached for strength in chosen],
        area=area(PRICE_CURVE, [made_up(one, test.unsteered_e_0) for one in e_0]),
    )
    return record, {"price_curve.ld": ld.numpy(), "price_curve.kl": kl.numpy()}


def unit_of(intervention: Intervention) -> float:
    """The |beta| at which the largest scalar is 1; 1 for what has no scalars, or only zeros."""
    if not isinstance(intervention, StaticScaling):
        return 1.0
    largest = float(intervention.magnitudes().max()) if len(intervention.magnitudes()) else 0.0
    return 1.0 / largest if largest > 0 else 1.0


def made_up(e_0: float, unsteered: float) -> float:
    """Share of the unsteered E_0 that is made up for: 0 as without steering, 1 every prompt flips.

    NaN where the unsteered model is indifferent already.
    """
    return 1.0 - e_0 / unsteered if unsteered else math.nan
