"""What the leaderboard may say of a method: never a bare rank.

A method is judged by two questions, each answered by the paired tests of `reports.tables.paired`:
is it told apart from the best one, and does it beat its controls (Random, and its own scores
Shuffled)? Where the answer is not known, that is the answer.
"""

from math import inf
from typing import Any

from reports.load import Results
from reports.outcomes import Outcome, main_split, outcomes
from reports.statistics import interval
from reports.tables.paired import NOT_TOLD_APART, TOO_FEW, compared

BEST = "best"
BEHIND = "behind the best"
BEATS = "beats controls"
WORSE = "worse than a control"
NO_BETTER = "no better than controls"


def verdicts(results: Results, model: str, task: str) -> dict[str, dict[str, Any]]:
    """Return by method's label the columns against_best and against_controls.

    against_best: `best`, `best, not told apart from N` (others), `not told apart from the best`,
    `behind the best`. against_controls: `beats controls` (all of them), `no better than controls`
    (not told apart from one at least), `worse than a control`. Both `too few prompts to tell`
    where no test could say anything; None of controls, and where there is nothing to compare.
    """
    known = outcomes(results, model, task, main_split(results.of(model, task)))
    methods = [one for one in known.values() if not one.control]
    rows = compared(results, model, task)
    if not rows:
        return {}
    best = max(methods, key=lambda one: one.mean if one.mean == one.mean else -inf)
    return {
        one.label: {
            "against_best": _against_best(one, best, rows, known),
            "against_controls": _against_controls(one, rows, known),
        }
        for one in methods
    }


def _against_best(
    one: Outcome, best: Outcome, rows: list[dict[str, Any]], known: dict[str, Outcome]
) -> str | None:
    others = {
        frozenset((row["method_a"], row["method_b"])): row["verdict"]
        for row in rows
        if not known[row["method_b"]].control and best.label in (row["method_a"], row["method_b"])
    }
    if one is best:
        tied = sum(verdict in (NOT_TOLD_APART, TOO_FEW) for verdict in others.values())
        return f"{BEST}, {NOT_TOLD_APART} from {tied}" if tied else BEST
    verdict = others[frozenset((one.label, best.label))]
    if verdict == TOO_FEW:
        return TOO_FEW
    return f"{NOT_TOLD_APART} from the best" if verdict == NOT_TOLD_APART else BEHIND


def _against_controls(
    one: Outcome, rows: list[dict[str, Any]], known: dict[str, Outcome]
) -> str | None:
    found = {
        row["verdict"]
        for row in rows
        if row["method_a"] == one.label and known[row["method_b"]].control
    }
    if not found:
        return None
    if found - {one.label, NOT_TOLD_APART, TOO_FEW}:
        return WORSE
    if TOO_FEW in found:
        return TOO_FEW
    return NO_BETTER if NOT_TOLD_APART in found else BEATS


def intervals(results: Results, model: str, task: str, split: str) -> dict[str, dict[str, float]]:
    """Return by label the 95 % intervals of E_0 on a split, NaN where there is none.

    Keys: `E_0_<split>_prompts_low`, `..._high` (prompts drawn again) and `E_0_<split>_seeds_low`,
    `..._high` (seeds, or the draws of a control, drawn again).
    """
    found: dict[str, dict[str, float]] = {}
    for label, one in outcomes(results, model, task, split).items():
        ends = {"prompts": interval(one.per_prompt), "seeds": interval(one.per_cell)}
        found[label] = {
            f"E_0_{split}_{unit}_{end}": value
            for unit, both in ends.items()
            for end, value in zip(("low", "high"), both, strict=True)
        }
    return found
