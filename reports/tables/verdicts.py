"""What the leaderboard may say of a method: never a bare rank.

A method is judged by three questions, each answered by the paired tests of `reports.tables.paired`:
is it told apart from the best one, does it beat its controls (Random, and its own scores Shuffled)
when all points act, and does it beat them when its few strongest points act alone: does it know
where? Where the answer is not known, that is the answer.

The best is the method of largest E_0. A verdict is the first of these that holds.

Against the other methods:
    undefined ...                        a value of it is no number
    too few prompts to tell ...          no test of it with the best (as the best: with anyone)
                                         could have said anything
    best                                 it is the best, and told apart from every other method
    best, not told apart from N          it is the best, and N others may be as good
    not told apart from the best
    behind the best                      told apart from the best

Against the controls, naming those it is said of:
    undefined ...
    worse than C                         told apart from C, which does better
    too few prompts to tell ...
    prices differ from C
    not told apart from C
    beats controls                       told apart from all, and of their n draws so few do as well
                                         that (1 + those) / (1 + n) is at most 0.05
    not better than every draw of C      told apart from C's mean; one draw does as well
    better than n of n draws             told apart from all, and better than each of their draws,
                                         of which there are too few (below 19) to say more

With few points "localises" stands for "beats controls".
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from reports.load import Results
from reports.outcomes import Outcome, main_split, outcomes, outcomes_of_few_points
from reports.statistics import LEVEL, interval
from reports.tables.paired import (
    A_DRAW_AS_GOOD,
    NO_SHARED_PROMPT,
    NOT_TOLD_APART,
    PRICES_DIFFER,
    TOO_FEW,
    compared,
    compared_at_few_points,
    says_nothing,
    undefined,
)

BEST = "best"
BEHIND = "behind the best"
NOT_TOLD_FROM_BEST = f"{NOT_TOLD_APART} from the best"
BEATS = "beats controls"
LOCALISES = "localises"
WORSE = "worse than"
Row = dict[str, Any]


def verdicts(results: Results, model: str, task: str) -> dict[str, dict[str, str | None]]:
    """Return by method's label the columns against_best, against_controls and localises.

    None of controls, and where there is nothing to compare with.
    """
    known = outcomes(results, model, task, main_split(results.of(model, task)))
    methods = [one for one in known.values() if not one.control]
    rows = compared(results, model, task)
    if not rows:
        return {}
    few = outcomes_of_few_points(results, model, task)
    few_rows = compared_at_few_points(results, model, task)
    best = max(methods, key=lambda one: one.mean if one.mean == one.mean else -inf)
    among = [row for row in rows if not known[row["method_b"]].control]
    return {
        one.label: {
            "against_best": _against_best(one, best, among),
            "against_controls": against_controls(one, known, rows, BEATS),
            "localises": against_controls(few[one.label], few, few_rows, LOCALISES)
            if one.label in few
            else None,
        }
        for one in methods
    }


def _against_best(one: Outcome, best: Outcome, rows: Iterable[Row]) -> str | None:
    found = [
        str(row["verdict"])
        for row in rows
        if {best.label, one.label} <= {row["method_a"], row["method_b"]}
    ]
    if not found:
        return None
    if why := undefined(**{one.label: one.per_prompt}):
        return why
    if one is best:
        if all(verdict.startswith(TOO_FEW) for verdict in found):
            return found[0]
        open_ones = (NOT_TOLD_APART, TOO_FEW, PRICES_DIFFER)
        tied = sum(verdict.startswith(open_ones) for verdict in found)
        return f"{BEST}, {NOT_TOLD_APART} from {tied}" if tied else BEST
    (verdict,) = found
    if says_nothing(verdict) or verdict == NO_SHARED_PROMPT:
        return verdict
    if verdict == PRICES_DIFFER:
        return f"{PRICES_DIFFER} from the best"
    return NOT_TOLD_FROM_BEST if verdict == NOT_TOLD_APART else BEHIND


def against_controls(
    one: Outcome, known: Mapping[str, Outcome], rows: Iterable[Row], beats: str
) -> str | None:
    """Return the worst that is said of any control; `rows` are those of all methods."""
    found = {
        str(row["method_b"]): str(row["verdict"])
        for row in rows
        if row["method_a"] == one.label and known[row["method_b"]].control
    }
    if not found:
        return None
    for verdict in found.values():
        if says_nothing(verdict) and not verdict.startswith(TOO_FEW):
            return verdict
    if worse := [control for control, verdict in found.items() if verdict == control]:
        return f"{WORSE} {', '.join(worse)}"
    for verdict in found.values():
        if verdict.startswith(TOO_FEW) or verdict == NO_SHARED_PROMPT:
            return verdict
    for said in (PRICES_DIFFER, NOT_TOLD_APART):
        if named := [control for control, verdict in found.items() if verdict == said]:
            return f"{said} from {', '.join(named)}"
    draws = [draw for control in found for draw in known[control].per_seed]
    as_good = sum(draw >= one.mean for draw in draws)
    if (1 + as_good) / (1 + len(draws)) <= LEVEL:
        return beats
    if named := [control for control, verdict in found.items() if verdict == A_DRAW_AS_GOOD]:
        return f"{A_DRAW_AS_GOOD} of {', '.join(named)}"
    return f"better than {len(draws) - as_good} of {len(draws)} draws"


def intervals(results: Results, model: str, task: str, split: str) -> dict[str, dict[str, float]]:
    """Return by label the 95 % intervals of E_0 on a split, NaN where there is none.

    Keys: `E_0_<split>_prompts_low`, `..._high` (prompts drawn again) and `E_0_<split>_seeds_low`,
    `..._high` (seeds, or the draws of a control, drawn again).
    """
    found: dict[str, dict[str, float]] = {}
    for label, one in outcomes(results, model, task, split).items():
        ends = {"prompts": interval(one.per_prompt, one.weights), "seeds": interval(one.per_seed)}
        found[label] = {
            f"E_0_{split}_{unit}_{end}": value
            for unit, both in ends.items()
            for end, value in zip(("low", "high"), both, strict=True)
        }
    return found
