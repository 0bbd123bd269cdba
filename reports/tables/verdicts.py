"""What the leaderboard may say of a method: never a bare rank.

A method is judged by two questions, each answered by the paired tests of `reports.tables.paired`:
is it told apart from the best one, and does it beat its controls (Random, and its own scores
Shuffled)? Where the answer is not known, that is the answer.

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
    not told apart from C
    not better than every draw of C      told apart from C's mean; one draw does as well
    beats controls                       told apart from all, and better than each of their draws
"""

from collections.abc import Iterable
from math import inf
from typing import Any

from reports.load import Results
from reports.outcomes import Outcome, main_split, outcomes
from reports.statistics import interval
from reports.tables.paired import (
    A_DRAW_AS_GOOD,
    NO_SHARED_PROMPT,
    NOT_TOLD_APART,
    TOO_FEW,
    compared,
    says_nothing,
    undefined,
)

BEST = "best"
BEHIND = "behind the best"
NOT_TOLD_FROM_BEST = f"{NOT_TOLD_APART} from the best"
BEATS = "beats controls"
WORSE = "worse than"
Row = dict[str, Any]


def verdicts(results: Results, model: str, task: str) -> dict[str, dict[str, str | None]]:
    """Return by method's label the columns against_best and against_controls.

    None of controls, and where there is nothing to compare with.
    """
    known = outcomes(results, model, task, main_split(results.of(model, task)))
    methods = [one for one in known.values() if not one.control]
    rows = compared(results, model, task)
    if not rows:
        return {}
    best = max(methods, key=lambda one: one.mean if one.mean == one.mean else -inf)
    among = [row for row in rows if not known[row["method_b"]].control]
    return {
        one.label: {
            "against_best": _against_best(one, best, among),
            "against_controls": _against_controls(
                [r for r in rows if r["method_a"] == one.label and known[r["method_b"]].control]
            ),
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
        tied = sum(verdict.startswith((NOT_TOLD_APART, TOO_FEW)) for verdict in found)
        return f"{BEST}, {NOT_TOLD_APART} from {tied}" if tied else BEST
    (verdict,) = found
    if says_nothing(verdict) or verdict == NO_SHARED_PROMPT:
        return verdict
    return NOT_TOLD_FROM_BEST if verdict == NOT_TOLD_APART else BEHIND


def _against_controls(rows: Iterable[Row]) -> str | None:
    """The worst that is said of any control; `rows` are those of one method with its controls."""
    found = {str(row["method_b"]): str(row["verdict"]) for row in rows}
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
    for said, text in ((NOT_TOLD_APART, f"{NOT_TOLD_APART} from"), (A_DRAW_AS_GOOD, None)):
        if named := [control for control, verdict in found.items() if verdict == said]:
            return f"{text or f'{said} of'} {', '.join(named)}"
    return BEATS


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
