"""The page of published results, in Markdown, from what the file holds alone."""

from contextlib import suppress
from typing import Any

from pandas import DataFrame

from reports.figures import FIGURES
from reports.load import Results, plain_name
from reports.missing import grouped
from reports.present import CHECKS, kind, verdict
from reports.published.findings import KNOWS_WHERE, STEERS, findings, n_undecided, summary
from reports.registry import Scope
from reports.tables.curves import curves
from reports.tables.finding import MEASURES, headline, steering
from reports.text import MISSING, interval, markdown, number
from reports.write import file_names, stem_of
from tasks.errors import UserInputError
from tasks.text import counted, visible

DATA, TABLE = "results.json", "leaderboard.csv"
CIRCUITS, FINDING = "circuits.json", "finding"
"""Results on models whose circuit is known, and the picture of them."""
MARK = (
    "<!-- Made by `python -m bench publish` from results.json beside it; not written by hand. -->"
)
PICTURES = ("price", "localisation", "retrained")
"""Figures of every task."""


def page_of(results: Results, folder: str, circuits: Results | None = None) -> str:
    """Return the page.

    Args:
        results: what `load_published` gives.
        folder: where the files and pictures are, as the page has to call it.
        circuits: the same of a run on models whose circuit is known; the page gets a section then.
    """
    table = summary(results)
    parts = [
        *(MARK, "# Results", _about(results, table, folder), "## What was found"),
        "\n".join(f"{place}. {text}" for place, text in enumerate(findings(table), start=1)),
        *([markdown(over_tasks(table))] if len(results.pairs()) > 1 else []),
        *_missing(results),
    ]
    drawn = pictures(results)
    for model, task in results.pairs():
        rows = table[(table["model"] == model) & (table["task"] == task)]
        parts += [f"## {visible(model)} · {visible(task)}", _of_task(rows), markdown(_shown(rows))]
        parts += _few_points(results, model, task)
        parts += [
            f"![{FIGURES[name].summary}]({folder}/{stem}.png)"
            for stem, name, scope in drawn
            if scope == {"model": model, "task": task}
        ]
    if circuits is not None:
        parts += _known_circuits(circuits, folder)
    return "\n\n".join([*parts, _check(folder)]) + "\n"


def pictures(results: Results) -> list[tuple[str, str, Scope]]:
    """Return the stem, the figure's name and what it is of, for every figure that can be drawn."""
    names, found = file_names(results.pairs()), []
    for model, task in results.pairs():
        scope = {"model": model, "task": task}
        for name in PICTURES:
            with suppress(UserInputError):  # it was not measured
                FIGURES[name].numbers(results, **scope)
                found.append((stem_of(name, scope, names), name, scope))
    return found


def _about(results: Results, table: DataFrame, folder: str) -> str:
    draws = table[table["method"] == "random"]["n_cells"]
    said = [
        f"{_and(table['model'])}; tasks {_and(table['task'])}",
        _cells_of(results),
        *([f"{'/'.join(map(str, sorted(set(draws))))} draws of `random`"] if len(draws) else []),
    ]
    return (
        f"{'; '.join(said)}. Self-reported: [`{DATA}`]({folder}/{DATA}) has E₀ and the price paid "
        f"on every prompt, [`{TABLE}`]({folder}/{TABLE}) the tables below with all controls; what "
        "the numbers mean is in [How to read the numbers](reading.md)."
    )


def _cells_of(results: Results) -> str:
    """How many cells on how many prompts, and what computed them."""
    records = results.records
    prompts = sorted({row.n_prompts for record in records for row in record.metrics})
    versions = {str(one.provenance.get("versions", {}).get("attribution-bench")) for one in records}
    commits = {str((one.provenance.get("git") or {}).get("commit"))[:10] for one in records}
    return (
        f"{'/'.join(map(str, prompts))} test prompts a task; {len(records)} cells; "
        f"attribution-bench {', '.join(sorted(versions))} at commit {', '.join(sorted(commits))}"
    )


def _and(names: Any) -> str:
    return ", ".join(f"`{visible(name)}`" for name in dict.fromkeys(names))


def _missing(results: Results) -> list[str]:
    """What the matrix has and the run has not: first the tasks without any result."""
    if not results.missing:
        return []
    done = {record.task for record in results.records}
    absent = dict.fromkeys(one.task for one in results.missing if one.task not in {*done, None})
    lines = [f"Tasks without any result: {_and(absent)}."] if absent else []
    rows = DataFrame(grouped(results.missing))
    by_task = rows.groupby(["task", "status"], sort=False, dropna=False)["n_cells"].sum()
    counts = [
        f"{visible(str(task))}: {number} {status}" for (task, status), number in by_task.items()
    ]
    lines.append(f"Cells without a result: {'; '.join(counts)}.")
    return ["## What is missing", "A partial run. " + " ".join(lines)]


def over_tasks(table: DataFrame) -> DataFrame:
    """A line a method: on how many tasks it beats its controls, and mean shares made up for."""
    table = table[table.apply(_in_table, axis=1)]
    lines = []
    for method, rows in table.groupby("method", sort=False):
        line: dict[str, Any] = {"method": method, "kind": kind(rows.iloc[0].to_dict())}
        for question, won, share in (
            (STEERS, "it steers: beats its controls on", "share made up for"),
            (KNOWS_WHERE, "it knows where: on", "by few points"),
        ):
            asked = rows[question.verdict].notna()
            wins = int((rows[question.verdict] == question.yes).sum())
            line[won] = f"{wins} of {counted(asked.sum(), 'task')}" if asked.any() else MISSING
            if unknown := n_undecided(rows[question.verdict]):
                line[won] += f", {unknown} undecided"
            line[share] = rows[question.rank].astype(float).mean()
        lines.append(line)
    frame = DataFrame(lines).sort_values("share made up for", ascending=False)
    shares = ["share made up for", "by few points"]
    return frame.assign(**{name: frame[name].map(lambda one: number(one, 2)) for name in shares})


def _of_task(rows: DataFrame) -> str:
    first = rows.iloc[0]
    price = first["price"]
    at = f"at {price:g} nats on train" if price is not None else "at β*, of trained methods at 1"
    return (
        f"E₀ on test {at}; unsteered {number(first['E_0_unsteered'], 2)}; floor of the task "
        f"{number(first['floor'], 3)} nats."
    )


def _shown(rows: DataFrame) -> DataFrame:
    lines = DataFrame([_line(row) for row in rows.to_dict("records") if _in_table(row)])
    unmeasured = [title for title in CHECKS.values() if (lines[title] == MISSING).all()]
    return lines.drop(columns=unmeasured)


def _few_points(results: Results, model: str, task: str) -> list[str]:
    """E_0 with the k points of largest |score| alone, a line a method."""
    found = [
        one
        for one in curves(results, model, task, "localisation")
        if not one.control or plain_name(one.label) == "random"
    ]
    ks = list(dict.fromkeys(k for one in found for k in one.x))
    lines = []
    for one in sorted(found, key=lambda one: -one.area):
        draws = f", {counted(one.n_cells, 'draw')}" if one.control else ""
        values = dict(zip(one.x, zip(one.mean, one.paid, strict=True), strict=True))
        said = {k: f"{number(e_0, 2)} ({number(paid, 2)})" for k, (e_0, paid) in values.items()}
        line = {"method": one.label + draws, **{f"k = {k}": said.get(k, MISSING) for k in ks}}
        lines.append(line)
    title = "With few points, E₀ (and what it paid) of the k of largest |score| alone:"
    return [title, markdown(DataFrame(lines))] if lines else []


def _in_table(row: dict[str, Any]) -> bool:
    """Methods and Random; their own scores shuffled are in the CSV file."""
    return not row["control"] or row["method"] == "random"


def _line(row: dict[str, Any]) -> dict[str, str]:
    ends = interval(row["E_0_low"], row["E_0_high"], 2)
    few = interval(row["few_points_low"], row["few_points_high"], 2)
    none = row["few_points"] is None
    return {
        "method": row["method"],
        "kind": kind(row),
        "E₀": f"{number(row['E_0'], 2)} {ends}",
        "share made up for": number(row["share"], 2),
        "paid": number(row["paid"], 2),
        "does it steer?": verdict(row),
        "few points": MISSING if none else f"{number(row['few_points'], 2)} {few}",
        "knows where?": row["localises"] or MISSING,
        "E₀ at β* (paid)": f"{number(row['E_0_at_star'], 2)} ({number(row['paid_at_star'], 2)})",
        **{
            title: number(row[name], 3) if name.startswith("kl") else row[name] or MISSING
            for name, title in CHECKS.items()
        },
    }


def _known_circuits(circuits: Results, folder: str) -> list[str]:
    """Whether finding a circuit that is known goes with steering, over methods."""
    said = "; ".join([_cells_of(circuits), *filter(None, [headline(circuits)])])
    table = steering(circuits)
    rows = DataFrame(
        {
            "over methods, within a model and task": table["measure"].map(MEASURES),
            "rank correlation with AUROC": [
                f"{number(row['rho'], 2)} {interval(row['low'], row['high'], 2)}"
                for row in table.to_dict("records")
            ],
            "models and tasks": table["n_blocks"].map(str),
        }
    )
    return [
        "## Does finding a circuit go with steering?",
        f"{said}. [`{CIRCUITS}`]({folder}/{CIRCUITS}) has the numbers, and [Known "
        "circuits](truth.md) what they mean: the AUROC of a method's scores for the points of a "
        "circuit that was planted, against what the same scores steer.",
        markdown(rows),
        f"![{FIGURES[FINDING].summary}]({folder}/{FINDING}.png)",
    ]


def _check(folder: str) -> str:
    return f"""## To check it

    python -m bench verify {folder}/{DATA}
    python -m bench verify {folder}/{DATA} --recompute 3

In the folder of this page, the first computes every mean again from the numbers of the prompts. The
second also computes three cells again from the model, drawn by chance, and compares them. This page
and its pictures are made from `{DATA}` alone."""
