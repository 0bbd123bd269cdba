"""What a run found, in five sentences that are made of its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pandas import DataFrame
from scipy.stats import kendalltau, rankdata

from reports.tables.paired import PRICES_DIFFER, TOO_FEW
from reports.tables.verdicts import BEATS, LOCALISES
from reports.text import number
from tasks.text import counted, visible


@dataclass(frozen=True)
class Question:
    """One of the two questions: the column that ranks methods, and the verdict that says yes."""

    rank: str
    verdict: str
    yes: str


STEERS = Question("share", "against_controls", BEATS)
KNOWS_WHERE = Question("few_points", "localises", LOCALISES)
SURPRISE = "the largest difference between a method's ranks in the two questions"
"""The rule that finds what surprises."""


def findings(summary: DataFrame) -> list[str]:
    """Return five sentences in Markdown.

    Which methods steer at equal price; which know where; how far the two go together, task by
    task; what beats no control; and what surprises, which is found by the rule `SURPRISE`.

    Args:
        summary: see `reports.published.summary`.
    """
    several = summary["model"].nunique() > 1
    titles = summary["model"] + " · " + summary["task"] if several else summary["task"]
    table = summary.assign(where=titles.map(visible))
    methods = table[~table["control"].astype(bool)]
    random = table[table["method"] == "random"]
    return [
        _who("Does it steer?", "With all points acting", STEERS, methods, random),
        _who("Does it know where?", "With its few strongest points alone", KNOWS_WHERE,
             methods, random),
        _together(methods),
        _beats_nothing(methods),
        _surprise(methods),
    ]  # fmt: skip


def n_undecided(verdicts: Any) -> int:
    """Return how many verdicts leave the question open: unequal prices, or too few prompts."""
    return sum(str(one).startswith((PRICES_DIFFER, TOO_FEW)) for one in verdicts)


def _who(title: str, how: str, question: Question, methods: DataFrame, random: DataFrame) -> str:
    """Which methods beat their controls, on how many tasks, and the mean share they make up for."""
    nats = "/".join(dict.fromkeys(f"{price:g}" for price in methods["price"].dropna()))
    at = f"{how}, at {nats} nats" if nats else how
    asked = methods[methods[question.verdict].notna()]
    n_tasks = asked["where"].nunique()
    if not n_tasks:
        return f"**{title}** Nothing was measured of that."
    rows = []
    for method, of_method in asked.groupby("method", sort=False):
        wins = int((of_method[question.verdict] == question.yes).sum())
        rows.append((wins, _mean(of_method[question.rank]), visible(str(method))))
    rows.sort(reverse=True)
    winners = [f"`{name}` ({wins} of {n_tasks}, {number(mean, 2)})" for wins, mean, name in rows
               if wins]  # fmt: skip
    chance = _mean(random[question.rank])
    beside = "" if np.isnan(chance) else f"; `random` makes up for {number(chance, 2)}"
    unknown = n_undecided(asked[question.verdict])
    if unknown:
        beside += f"; undecided, since prices differ or prompts are few: {unknown} of {len(asked)}"
    shown = "on how many tasks, and the share of the unsteered E₀ made up for, mean over tasks"
    if not winners:
        best = ", ".join(f"`{name}` ({number(mean, 2)})" for _, mean, name in rows[:1])
        said = _most_said(asked[question.verdict])
        return (
            f"**{title}** {at}, no method can be said to beat its controls on any of "
            f"{counted(n_tasks, 'task')} (most often: *{said}*); most of the unsteered E₀ is made "
            f"up for by {best}{beside}."
        )
    beat = "beats its" if len(winners) == 1 else "beat their"
    return f"**{title}** {at}, {_and(winners)} {beat} controls ({shown}{beside})."


def _together(methods: DataFrame) -> str:
    taus, sizes = [], set()
    for where, of_task in methods.groupby("where", sort=False):
        known = _ranked(of_task)
        if len(known) > 1:
            tau = kendalltau(known[STEERS.rank], known[KNOWS_WHERE.rank]).statistic
            taus.append(f"{number(tau, 2)} ({where})")
            sizes.add(len(known))
    title = "**How far do the two go together?**"
    if not taus:
        return f"{title} Too few methods have both numbers to rank them."
    many = "/".join(map(str, sorted(sizes)))
    return (
        f"{title} Between the ranks of {many} methods in the two questions Kendall's τ is "
        f"{_and(taus)}: a description, no verdict."
    )


def _beats_nothing(methods: DataFrame) -> str:
    losers = []
    for method, of_method in methods.groupby("method", sort=False):
        won = (of_method[STEERS.verdict] == STEERS.yes) | (
            of_method[KNOWS_WHERE.verdict] == KNOWS_WHERE.yes
        )
        if not won.any():
            losers.append(f"`{visible(str(method))}`")
    title = "**What beats no control?**"
    if not losers:
        return f"{title} Every method beats its controls on some task, in one question at least."
    return f"{title} In neither question, on no task: {_and(sorted(losers))}."


def _surprise(methods: DataFrame) -> str:
    found: tuple[float, str] | None = None
    for where, of_task in methods.groupby("where", sort=False):
        known = _ranked(of_task)
        if len(known) < 2:
            continue
        ranks = [_ranks(known[name]) for name in (STEERS.rank, KNOWS_WHERE.rank)]
        place = int(np.argmax(np.abs(ranks[0] - ranks[1])))
        apart = float(abs(ranks[0][place] - ranks[1][place]))
        if found is None or apart > found[0]:
            name, (steers, knows) = (
                visible(known["method"].iloc[place]),
                (one[place] for one in ranks),
            )
            found = (
                apart,
                (
                    f"on {where} `{name}` is number {steers:g} of {len(known)} with all points "
                    f"and number {knows:g} with few"
                ),
            )
    title = "**What surprises?**"
    if found is None or found[0] == 0:
        return f"{title} Nothing: no method's ranks in the two questions differ."
    return f"{title} By {SURPRISE}: {found[1]}."


def _ranked(of_task: DataFrame) -> DataFrame:
    """Return the rows that have both numbers."""
    both = of_task[[STEERS.rank, KNOWS_WHERE.rank]].astype(float)
    return of_task[np.isfinite(both).all(axis=1)]


def _ranks(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """1 is the largest; equal ones share their rank."""
    return np.asarray(rankdata(-np.asarray(values, dtype=float)), dtype=np.float64)


def _mean(values: Any) -> float:
    known = np.asarray(values, dtype=float)
    return float(np.mean(known)) if len(known) else float("nan")


def _most_said(verdicts: Any) -> str:
    return visible(str(verdicts.value_counts().index[0]))


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
