"""The command `report`: its options, kept apart from the other commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tasks.errors import UserInputError
from tasks.text import visible


def report(
    results: Annotated[Path, typer.Argument(help="A results directory, or one of a suite.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to; RESULTS/report by default."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeatable.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Only this method and its controls; repeatable."),
    ] = None,
    figure: Annotated[
        list[str] | None, typer.Option(help="Only this figure (see `list`); repeatable.")
    ] = None,
    width: Annotated[
        str, typer.Option(help="Of figures: natural, column (3.25 in), page (6.75 in), or inches.")
    ] = "natural",
    palette: Annotated[
        str, typer.Option(help="default (safe for the colour-blind and in grey print), or grey.")
    ] = "default",
    against: Annotated[
        Path | None,
        typer.Option(help="Another run: says cell by cell what changed beyond noise."),
    ] = None,
) -> None:
    """Writes the report of a run from its stored results; needs no model.

    A folder with index.html, which opens without a network; figures as PDF, SVG and PNG, each with
    its data as CSV; tables as CSV, Markdown and LaTeX. Of the results of `run paper`, a report of
    every preset and the page of claims.
    """
    from bench.cli.suite import report_suite, runs_of_suite
    from reports.write import ReportOptions, write_report

    options = ReportOptions(
        models=model or (),
        tasks=task or (),
        methods=method or (),
        figures=figure or (),
        width=_inches(width),
        palette=palette,
        against=against,
    )
    if runs_of_suite(results):
        if output is not None or against is not None:
            raise UserInputError(
                f"{results} is the results of a suite: its reports stand beside them, and runs are "
                "compared one by one. Leave out --output and --against, or name a folder in it."
            )
        page = report_suite(results, options)
    else:
        page = write_report(results, output, options)
    print_paths(Console(), {"report": page})


def _inches(width: str) -> float | None:
    from reports.style import WIDTHS

    if width == "natural":
        return None
    try:
        inches = WIDTHS[width] if width in WIDTHS else float(width)
    except ValueError:
        inches = 0.0
    if not 2.5 <= inches <= 40:
        known = ", ".join(("natural", *WIDTHS))
        raise UserInputError(f'--width "{width}" is none of {known} and no 2.5 to 40 inches.')
    return inches


def print_paths(console: Console, paths: dict[str, Path]) -> None:
    """Prints where things are, whole, so that they can be copied."""
    for what, path in paths.items():
        console.print(
            f"{what}: {visible(str(path))}", soft_wrap=True, markup=False, highlight=False
        )
