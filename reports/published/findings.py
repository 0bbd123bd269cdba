"""What a run found: a row a model, task and method, and five sentences made of these numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pandas import DataFrame, Series
from scipy.stats import kendalltau

from reports.load import Results, frame_of
from reports.outcomes import main_split
from reports.tables.curves import floor_of
from reports.tables.leaderboard import leaderboard
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


def summary(results: Results) -> DataFrame:
    """Return the leaderboard's columns that answer the two questions, best E_0 of a task first.

    `share` is the share of the unsteered E_0 that is made up for at `price`, `few_points` that of
    the k strongest points alone, averaged over log k; low and high are 95 % over prompts. The last
    three are of checks (`reports.tables.checks`). Only methods and controls with a finished cell.
    """
    return frame_of(
        _summed_up(row, main_split(results.of(*pair)), floor_of(results, *pair))
        for pair in results.pairs()
        for row in leaderboard(results, *pair).to_dict("records")
        if row["n_cells"]
    )


def _summed_up(row: dict[str, Any], split: str, floor: float) -> dict[str, Any]:
    def same(*names: str) -> dict[str, Any]:
        return {name: row[name] for name in names}

    e_0, unsteered = row[f"E_0_{split}"], row[f"E_0_unsteered_{split}"]
    return {
        **same("model", "task", "method", "trained", "control", "n_cells", "n_missing", "price"),
        **{"E_0": e_0, "E_0_low": row[f"E_0_{split}_prompts_low"]},
        **{"E_0_high": row[f"E_0_{split}_prompts_high"], "paid": -row[f"F_{split}"]},
        **{"E_0_unsteered": unsteered, "share": 1 - e_0 / unsteered if unsteered else None},
        **{"floor": floor, **same("against_best", "against_controls")},
        "few_points": row["localisation"],
        "few_points_low": row["localisation_prompts_low"],
        "few_points_high": row["localisation_prompts_high"],
        **{**same("localises"), "E_0_at_star": row[f"E_0_{split}_at_star"]},
        "paid_at_star": row[f"paid_{split}_at_star"],
        **same("map_changes", "kl_elsewhere", "kl_neutral"),
    }


def findings(summary: DataFrame) -> list[str]:
    """Return five sentences in Markdown.

    Which methods steer at equal price; which know where; how far the two go together, task by
    task; what beats no control; and what surprises, which is found by the rule `SURPRISE`.

    Args:
        summary: what `summary` returns.
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
        said = visible(str(asked[question.verdict].value_counts().index[0]))
        return (
            f"**{title}** {at}, no method can be said to beat its controls on any of "
            f"{counted(n_tasks, 'task')} (most often: *{said}*); most of the unsteered E₀ is made "
            f"up for by {best}{beside}."
        )
    beat = "beats its" if len(winners) == 1 else "beat their"
    return f"**{title}** {at}, {_and(winners)} {beat} controls ({shown}{beside})."


def _together(methods: DataFrame) -> str:
    known = list(_ranked(methods))
    taus = [
        f"{number(kendalltau(steers, knows).statistic, 2)} ({where})"
        for where, _, steers, knows in known
    ]
    title = "**How far do the two go together?**"
    if not taus:
        return f"{title} Too few methods have both numbers to rank them."
    many = "/".join(map(str, sorted({len(names) for _, names, *_ in known})))
    return (
        f"{title} Between the ranks of {many} methods in the two questions Kendall's τ is "
        f"{_and(taus)}: a description, no verdict."
    )


def _beats_nothing(methods: DataFrame) -> str:
    steers, knows = (methods[one.verdict] == one.yes for one in (STEERS, KNOWS_WHERE))
    won = (steers | knows).groupby(methods["method"])
    losers = [f"`{visible(str(method))}`" for method, any_of in won if not any_of.any()]
    title = "**What beats no control?**"
    if not losers:
        return f"{title} Every method beats its controls on some task, in one question at least."
    return f"{title} In neither question, on no task: {_and(sorted(losers))}."


def _surprise(methods: DataFrame) -> str:
    largest, said = 0.0, ""
    for where, names, steers, knows in _ranked(methods):
        apart = (steers - knows).abs()
        if apart.max() > largest:
            largest, place = float(apart.max()), int(apart.argmax())
            said = (
                f"on {where} `{visible(names.iloc[place])}` is number {steers.iloc[place]:g} of "
                f"{len(names)} with all points and number {knows.iloc[place]:g} with few"
            )
    title = "**What surprises?**"
    if not said:
        return f"{title} Nothing: no method's ranks in the two questions differ."
    return f"{title} By {SURPRISE}: {said}."


def _ranked(methods: DataFrame) -> Iterator[tuple[str, Series, Series, Series]]:
    """Yield every task with its methods that have both numbers, if two do, and their two ranks.

    1 is the largest; equal ones share their rank.
    """
    for where, of_task in methods.groupby("where", sort=False):
        both = of_task[[STEERS.rank, KNOWS_WHERE.rank]].astype(float)
        both = both[np.isfinite(both).all(axis=1)]
        if len(both) > 1:
            ranks = both.rank(ascending=False)
            names = of_task.loc[both.index, "method"]
            yield str(where), names, ranks[STEERS.rank], ranks[KNOWS_WHERE.rank]


def _mean(values: Series) -> float:
    return float(values.astype(float).mean(skipna=False))


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
