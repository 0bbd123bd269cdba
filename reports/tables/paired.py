"""Methods against each other on the same prompts, and against the controls: who differs from whom.

The test is a permutation test over prompts (`reports.statistics.sign_flip`), adjusted by Holm for
all comparisons of a model and task.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.load import Results, of_pairs, once, parent_of
from reports.outcomes import Outcome, Values, main_split, outcomes, outcomes_of_few_points
from reports.outcomes import paired as on_shared_prompts
from reports.statistics import LEVEL, holm, interval, prompts_needed, sign_flip, smallest_p
from reports.tables.curves import curve_of, values_of

TOO_FEW = "too few prompts to tell"
UNDEFINED = "undefined"
"""Neither is the same as two methods that were looked at closely enough and do not differ."""
NOT_TOLD_APART = "not told apart"
A_DRAW_AS_GOOD = "not better than every draw"
NO_SHARED_PROMPT = "no prompt in common"
PRICES_DIFFER = "prices differ"
SAME_PRICE = 1.25
"""Prices on test whose ratio is below this are the same."""


@once
def compared(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    """Return a row a pair of methods, and a row a method and control.

    Two methods are compared on the `n_prompts` that both saw; prompts are the same where tokens,
    answer and foil are. `difference` is E_0 of a minus E_0 of b there, with the bootstrap's 95 %
    interval over prompts; p is the permutation test's, p_holm adjusted for all rows of the model
    and task. Against a control `draws_beaten` is the share of its draws that a is better than.

    `verdict` is the label of the better one where p_holm is below 0.05, and else why not:
    `not told apart`; `not better than every draw` (of a control: told apart from their mean, but
    one draw does as well); `too few prompts to tell` (no adjusted p could be that small);
    `undefined` (a value is no number); `no prompt in common`; `prices differ`: told apart, but one
    paid at least 25 % more on these prompts (`paid_a`, `paid_b`, in nats), and at the price of the
    other one, read prompt by prompt from its stored curve, it is not. Where it has no curve, it is
    the better one.
    """
    return rows_of(results, model, task, outcomes(results, model, task))


table = of_pairs(compared)


@once
def compared_at_few_points(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    """Return the rows of one model and task when the strongest points act alone."""
    few = outcomes_of_few_points(results, model, task)
    return rows_of(results, model, task, few, all_points=False)


def rows_of(
    results: Results, model: str, task: str, found: dict[str, Outcome], *, all_points: bool = True
) -> list[dict[str, Any]]:
    """Return the rows of methods and controls by label, on the main split of a model and task.

    Without `all_points` the outcomes are those of some points alone, and no curve is of these.
    """
    split = main_split(results.of(model, task))
    pairs = [on_shared_prompts(*pair) for pair in _pairs(found)]
    # NaN where they share no prompt
    p = np.array([sign_flip(a.weights * (a.per_prompt - b.per_prompt))[0] for a, b in pairs])
    family = int(np.isfinite(p).sum())
    return [
        {"split": split}
        | _row(results if all_points else None, a, b, float(raw), float(adjusted), family)
        for (a, b), raw, adjusted in zip(pairs, p, holm(p), strict=True)
    ]


def _pairs(known: dict[str, Outcome]) -> Iterator[tuple[Outcome, Outcome]]:
    """Every two methods; every method with random and with its own scores shuffled."""
    methods = [one for one in known.values() if not one.control]
    yield from combinations(methods, 2)
    for control in (one for one in known.values() if one.control):
        of = parent_of(control.records[0])
        yield from ((one, control) for one in methods if of in (None, one.records[0].method))


def _row(
    results: Results | None, a: Outcome, b: Outcome, p: float, p_holm: float, family: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"method_a": a.label, "method_b": b.label, "n_prompts": len(a.prompts)}
    row |= dict.fromkeys(("E_0_a", "E_0_b", "difference", "low", "high"))
    row |= {"p": p, "p_holm": p_holm, **dict.fromkeys(("draws_beaten", "paid_a", "paid_b"))}
    if not a.prompts:
        return row | {"verdict": NO_SHARED_PROMPT}
    difference = a.per_prompt - b.per_prompt
    low, high = interval(difference, a.weights)
    e_0_a, e_0_b = (float(a.weights @ one.per_prompt) for one in (a, b))
    return row | {
        **{"E_0_a": e_0_a, "E_0_b": e_0_b, "difference": e_0_a - e_0_b, "low": low, "high": high},
        "draws_beaten": float((a.mean > b.per_seed).mean()) if b.control else None,
        **{"paid_a": a.paid, "paid_b": b.paid},
        "verdict": undefined(**{one.label: one.per_prompt for one in (a, b)})
        or too_few(len(difference), family)
        or _verdict(results, a, b, e_0_a - e_0_b, p_holm),
    }


def _verdict(
    results: Results | None, a: Outcome, b: Outcome, difference: float, p_holm: float
) -> str:
    if not p_holm < LEVEL:
        return NOT_TOLD_APART
    if prices_differ(a, b) and not _holds_at_one_price(results, a, b, difference):
        return PRICES_DIFFER
    if b.control and difference > 0 and not (a.mean > b.per_seed).all():
        return A_DRAW_AS_GOOD
    return a.label if difference > 0 else b.label


def prices_differ(a: Outcome, b: Outcome) -> bool:
    """Return whether one paid at least 25 % more than the other, where both chose for one price."""
    if any(record.main_price is None for one in (a, b) for record in one.records):
        return False
    low, high = sorted((a.paid, b.paid))
    return high >= SAME_PRICE * low and high > 0


def _holds_at_one_price(results: Results | None, a: Outcome, b: Outcome, difference: float) -> bool:
    """Whether the same one is told apart at the lower of the two prices paid on these prompts.

    The dearer one is read there from its curve. Where it has none (`results` is None): whether it
    is the worse one. E_0 at a price is the best of all cheaper strengths, so at the lower price it
    does no better than it did.
    """
    a_is_dear = a.paid > b.paid
    dear, cheap = (a, b) if a_is_dear else (b, a)
    read = e_0_at_price(results, dear, cheap.paid) if results else None
    if read is None:
        return a_is_dear == (difference < 0)
    apart = read - b.per_prompt if a_is_dear else a.per_prompt - read
    told = float(sign_flip(a.weights * apart)[0]) < LEVEL
    return told and bool(np.sign(a.weights @ apart) == np.sign(difference))


def e_0_at_price(results: Results, one: Outcome, price: float) -> Values | None:
    """Return E_0 of every prompt at the strength whose mean price on these prompts is `price`.

    Read from the stored price curves, linear in log price between what was measured; a method that
    never pays so much is read at its largest price. None where not all of its cells store a curve.
    """
    records = list(one.records)
    if any(values_of(results, record, "price_curve") is None for record in records):
        return None
    curve = curve_of(results, one.label, records, "price_curve")
    if not set(one.prompts) <= set(curve.prompts):
        return None
    columns = [curve.prompts.index(prompt) for prompt in one.prompts]
    weights = curve.weights[columns] / curve.weights[columns].sum()
    paid = np.maximum.accumulate(-(weights @ curve.f[columns]))
    log_price, log_paid = (np.log(np.maximum(x, np.finfo(float).tiny)) for x in (price, paid))
    return np.array([np.interp(log_price, log_paid, of_prompt) for of_prompt in curve.e_0[columns]])


def too_few(prompts: int, comparisons: int) -> str:
    """Return why nothing can be told with so many prompts in a family of tests; "" where it can.

    The smallest p of n prompts is 2^(1-n); Holm's first step multiplies it by the comparisons.
    """
    if smallest_p(prompts) * comparisons < LEVEL:
        return ""
    needed = prompts_needed(comparisons)
    many = "1 comparison needs" if comparisons == 1 else f"{comparisons} comparisons need"
    return f"{TOO_FEW} ({prompts}; {many} {needed})"


def undefined(**values: NDArray[np.float64]) -> str:
    """Return whose values (prompt,) are not numbers on how many prompts; "" where all are."""
    found = [
        f"E₀ of {name} is no number on {bad} of {len(one)} prompts"
        for name, one in values.items()
        if (bad := int((~np.isfinite(one)).sum()))
    ]
    return f"{UNDEFINED}: {' and '.join(found)}" if found else ""


def says_nothing(verdict: str) -> bool:
    """Whether a verdict is one of these."""
    return verdict.startswith((TOO_FEW, UNDEFINED))
