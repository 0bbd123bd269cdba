"""Methods against each other on the same prompts, and against the controls: who differs from whom.

The test is a permutation test over prompts (`reports.statistics.sign_flip`), adjusted by Holm for
all comparisons of a model and task.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.load import Results, parent_of
from reports.outcomes import Outcome, main_split, outcomes
from reports.statistics import LEVEL, holm, interval, sign_flip, smallest_p

if TYPE_CHECKING:
    from pandas import DataFrame

NOT_TOLD_APART = "not told apart"
TOO_FEW = "too few prompts to tell"
COLUMNS = (
    *("model", "task", "split", "method_a", "method_b", "n_prompts", "E_0_a", "E_0_b"),
    *("difference", "low", "high", "p", "p_holm", "draws_beaten", "verdict"),
)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a pair of methods, and a row a method and control, with the columns of COLUMNS.

    `difference` is E_0 of a minus E_0 of b, averaged over prompts, with the bootstrap's 95 %
    interval over prompts; p is the permutation test's, p_holm adjusted for all rows of the model
    and task. Against a control `draws_beaten` is the share of its draws that a is better than.
    `verdict` is the label of the better one, `not told apart` (p_holm not below 0.05; of a control
    also where a draw of it does as well), or `too few prompts to tell` (no adjusted p could be
    that small).
    """
    from pandas import DataFrame

    pairs = dict.fromkeys((one.model, one.task) for one in results.matching(model, task))
    rows = [row for pair in pairs for row in compared(results, *pair)]
    return DataFrame(rows, columns=list(COLUMNS))


def compared(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    """Return the rows of one model and task."""
    return results.once(("paired", model, task), lambda: _compared(results, model, task))


def _compared(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    split = main_split(results.of(model, task))
    known = outcomes(results, model, task, split)
    sizes = {len(one.per_prompt) for one in known.values()}
    if len(sizes) != 1:
        return []  # other prompts: nothing is paired
    pairs = list(_pairs(known))
    if not pairs:
        return []
    differences = np.stack([a.per_prompt - b.per_prompt for a, b in pairs])
    p = sign_flip(differences)
    adjusted = holm(p)
    tellable = smallest_p(differences.shape[1]) * len(pairs) < LEVEL
    return [
        {
            **{"model": model, "task": task, "split": split},
            **{"method_a": a.label, "method_b": b.label, "n_prompts": len(difference)},
            **{"E_0_a": a.mean, "E_0_b": b.mean, "difference": float(difference.mean())},
            **dict(zip(("low", "high"), interval(difference), strict=True)),
            **{"p": float(p[row]), "p_holm": float(adjusted[row])},
            "draws_beaten": _draws_beaten(a, b),
            "verdict": _verdict(a, b, float(adjusted[row])) if tellable else TOO_FEW,
        }
        for row, ((a, b), difference) in enumerate(zip(pairs, differences, strict=True))
    ]


def _pairs(known: dict[str, Outcome]) -> Iterator[tuple[Outcome, Outcome]]:
    """Every two methods; every method with random and with its own scores shuffled."""
    methods = [one for one in known.values() if not one.control]
    yield from combinations(methods, 2)
    for control in (one for one in known.values() if one.control):
        of = parent_of(control.records[0])
        yield from ((one, control) for one in methods if of in (None, one.records[0].method))


def _draws_beaten(a: Outcome, b: Outcome) -> float | None:
    return float((a.mean > b.per_cell).mean()) if b.control else None


def _verdict(a: Outcome, b: Outcome, p_holm: float) -> str:
    if not p_holm < LEVEL:
        return NOT_TOLD_APART
    if b.control and a.mean > b.mean and not (a.mean > b.per_cell).all():
        return NOT_TOLD_APART
    return a.label if a.mean > b.mean else b.label
