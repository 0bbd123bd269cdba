"""Strength at a price: how well an intervention steers when it may change the model only so much.

The price of an intervention at strength beta is -F (Eq. 7): the divergence of both signs from the
unsteered model, in nats, a mean over prompts. Methods that are each tuned for themselves pay
different prices, so their E_0 cannot be compared; at one price it can. The strength is chosen on
train alone:

- B(c) are the strengths from 0 up to the first |beta| whose price exceeds c. Neither E_0 nor the
  price has to grow with |beta|, hence 'the first'.
- beta_c is the strength of B(c) with the largest E_0, 0 (the unsteered model) included; of equal
  ones the smallest.

What the price allows is first looked for on two prompts, at |beta| = 10^(k/2) in units of
1 / max|alpha|. On all prompts the largest affordable strength is then found by taking the price for
a power of |beta| between two strengths until it is within 1 % of c, and the largest E_0 by
parabolas and corners through the strengths around the best one. What was run for one price is known
to the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bench.evaluation.beta import parabola_tip
from bench.evaluation.response import Response
from bench.evaluation.sparsity import area
from bench.evaluation.split import Split, respond
from bench.matrix.stages import PRICE_CURVE
from bench.store.cells import Tensors
from bench.store.records import PriceCurveRecord, PriceRecord
from methods.core.intervention import Intervention
from methods.core.objective import effectiveness, faithfulness
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel

COARSE = 10**0.5
"""Ratio of the strengths that are tried on a few prompts."""
FEW_PROMPTS = 2
COARSE_STEPS = ((-2, -1, 0, 1), (-4, -3), (2, 3, 4))
"""|beta| = 10^(k/2) for these k, in units of 1 / max|alpha|: first, if all of them cost too much,
and if none does."""
FROM_A_GUESS = (-2, -1, 0)
"""The first ones where something like the limit is known, in units of that."""
LARGEST = 100.0
"""No |beta| is larger, in units of 1 / max|alpha|."""
BELOW = 0.45
"""The strength that is run below the guessed limit, as a share of it: there it costs about a fifth;
and again below that, where the smallest strength is the best."""
MOST_BELOW = 2
CLOSE = 0.99
"""Share of a price that the largest affordable strength has to pay at least."""
MOST_TRIES = 12
"""Interpolations of one price."""
WORTH_TRYING = 0.005
"""In logits: a parabola that promises less is not followed."""
CORNER_WORTH_TRYING = 0.02
"""The same of a corner, which promises more than a smooth curve keeps."""
MOST_TIPS = 3
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
        guess: something like the largest |beta| that is affordable.
    """

    subject: SubjectModel
    train: Split
    intervention: Intervention
    both_signs: bool = True
    guess: float | None = None
    _responses: list[Response] = field(default_factory=list, init=False)
    _price: dict[float, float] = field(default_factory=dict, init=False)
    _e_0: dict[float, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._e_0[0.0] = self.train.unsteered_e_0
        self.add(self.train.unsteered)

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
        for _ in range(MOST_BELOW):
            smallest = min(self._price, default=0.0)
            if abs(self._best(limit)) > smallest or smallest == 0:
                break
            self._run(BELOW * smallest)
        for _ in range(MOST_TIPS):
            best = self._best(limit)
            tip = self._tip(best, limit) or self._corner(best, limit)
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
        largest = float(np.float32(LARGEST * unit_of(self.intervention)))
        if not self._price:
            guess = min(self._coarse(price), largest)
            self._run(guess, BELOW * guess)
        for _ in range(MOST_TRIES):
            below, above = self._around(price)
            if below and self._price[below] >= CLOSE * price:
                return below, True
            if above is not None:
                self._run(self._between(below, above, price))
            elif below >= largest:
                return below, False
            else:
                self._run(min(self._beyond(below, price), largest))
        return self._around(price)[0], True

    def _around(self, price: float) -> tuple[float, float | None]:
        """The |beta| before the first one that costs more than `price`, and that one, if any."""
        sizes = sorted(self._price)
        dear = next((at for at, size in enumerate(sizes) if self._price[size] > price), None)
        if dear is None:
            return (sizes[-1] if sizes else 0.0), None
        return (sizes[dear - 1] if dear else 0.0), sizes[dear]

    def _coarse(self, price: float) -> float:
        """About the largest affordable |beta|, from a few prompts and strengths far apart."""
        unit = self.guess or unit_of(self.intervention)
        middle, lower, higher = COARSE_STEPS
        steps = FROM_A_GUESS if self.guess else middle
        paid = self._paid_by_few([unit * COARSE**step for step in steps])
        if min(paid.values()) > price:
            paid |= self._paid_by_few([unit * COARSE**step for step in lower])
        elif max(paid.values()) < price:
            paid |= self._paid_by_few([unit * COARSE**step for step in higher])
        sizes = sorted(paid)
        dear = next((at for at, size in enumerate(sizes) if paid[size] > price), len(sizes))
        if dear == len(sizes):
            return sizes[-1]
        below, above = sizes[dear - 1] if dear else 0.0, sizes[dear]
        return _power(below, above, paid.get(below, 0.0), paid[above], price)

    def _paid_by_few(self, sizes: Sequence[float]) -> dict[float, float]:
        """The price of some |beta| on the first prompts."""
        few = self.train.take(range(min(FEW_PROMPTS, len(self.train.prompts))))
        beta = torch.tensor([sign * size for size in sizes for sign in (1, -1)])
        kl = respond(self.subject, few, self.intervention, beta).kl
        prices = (-faithfulness(kl[:, ::2].T, kl[:, 1::2].T)).tolist()
        return {
            size: price if math.isfinite(price) else math.inf
            for size, price in zip(sizes, prices, strict=True)
        }

    def _between(self, below: float, above: float, price: float) -> float:
        """The |beta| between two at which the price is about `price`."""
        target = price * (1 + CLOSE) / 2
        return _power(below, above, self._price.get(below, 0.0), self._price[above], target)

    def _beyond(self, below: float, price: float) -> float:
        """The |beta| above all that were run at which the price is about `price`."""
        before = max((size for size in self._price if size < below), default=0.0)
        low, high = self._price.get(before, 0.0), self._price.get(below, 0.0)
        if not 0 < low < high:
            return COARSE * below
        power = math.log(high / low) / math.log(below / before)
        share = price * (1 + CLOSE) / 2 / high
        if math.log(share) >= power * math.log(COARSE):  # next to flat: what follows may overflow
            return COARSE * below
        ratio: float = share ** (1 / power)
        return below * max(ratio, 1.001)

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
        tip = parabola_tip(np.log(near), np.array([self._e_0[sign * size] for size in near]))
        if tip is None or tip[1] < self._e_0[best] + WORTH_TRYING:
            return None
        return math.exp(tip[0])

    def _corner(self, best: float, limit: float) -> float | None:
        """|beta| of a corner beside the best strength; None if it promises nothing.

        E_0 has corners where prompts flip, which no parabola sees. No concave curve over log |beta|
        lies above where the lines through the two strengths on either side meet.
        """
        sign = math.copysign(1.0, best)
        sizes = sorted(size for size in self._price if size <= limit)
        x, y = np.log(sizes), np.array([self._e_0[sign * size] for size in sizes])
        found: dict[float, float] = {}
        for at in range(1, len(sizes) - 2):  # between strengths `at` and `at` + 1
            if abs(best) in (sizes[at], sizes[at + 1]) and np.isfinite(y[at - 1 : at + 3]).all():
                left = (y[at] - y[at - 1]) / (x[at] - x[at - 1])
                right = (y[at + 2] - y[at + 1]) / (x[at + 2] - x[at + 1])
                if left > right:
                    corner = (y[at + 1] - y[at] + left * x[at] - right * x[at + 1]) / (left - right)
                    if x[at] < corner < x[at + 1]:
                        found[math.exp(corner)] = float(y[at] + left * (corner - x[at]))
        promising = max(found, key=lambda size: found[size], default=None)
        if promising is None or found[promising] < self._e_0[best] + CORNER_WORTH_TRYING:
            return None
        return promising

    def _run(self, *sizes: float) -> float:
        """The largest price of some strengths, which are run with their negatives unless known."""
        single = [float(np.float32(size)) for size in sizes]  # as they are run
        new = [sign * size for size in single if size not in self._price for sign in (1, -1)]
        if new:
            self.add(respond(self.subject, self.train, self.intervention, torch.tensor(new)))
        return max(self._price[size] for size in single)

    def add(self, response: Response) -> None:
        """Takes up the train split's response to strengths and their negatives."""
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


def _power(below: float, above: float, low: float, high: float, price: float) -> float:
    """The |beta| between two at which the price is `price`, as if it were a power of |beta|.

    Args:
        below: costs too little; 0 stands for the unsteered model.
        above: costs too much.
        low, high: what they cost.
        price: in between.
    """
    if not below:  # quadratic around 0
        return above * math.sqrt(price / high) if math.isfinite(high) else above / 10
    if not math.isfinite(high) or low <= 0:
        return math.sqrt(below * above)
    share = math.log(price / low) / math.log(high / low)
    between: float = (above / below) ** min(max(share, 0.05), 0.95)
    return below * between


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
