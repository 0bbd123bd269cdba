"""`python -m bench run paper`: presets one after the other, and a first page of claims."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.matrix.config import Suite, is_suite, load_config, load_suite, preset_names
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.store.layout import RUN_FILE
from bench.text import in_words
from tasks.errors import UserInputError
from tasks.text import counted, visible

if TYPE_CHECKING:
    from bench.execution.plan import Plan
    from bench.matrix.cells import PlannedCell
    from reports.write import ReportOptions


def load(
    source: str,
    output: Path | None,
    size: str,
    models: Sequence[str] | None,
    tasks: Sequence[str] | None,
    plugins: Sequence[Path] | None,
) -> Matrix | Suite:
    """The matrix or the suite that a command names; `output` is a suite's directory.

    Raises:
        UserInputError: as `load_config` and `load_suite`, and for tasks of a suite.
    """
    models, plugins = models or (), plugins or ()
    if not is_suite(source):
        return load_config(source, size=size, models=models, tasks=tasks or (), plugins=plugins)
    if tasks:
        raise UserInputError(f"{source} is presets with tasks of their own: leave out --task.")
    return load_suite(source, output, size=size, models=models, plugins=plugins)


def planned(matrix: Matrix, directory: Path, options: RunOptions) -> Plan:
    """What a run of a matrix into a directory would do; reads, and writes nothing."""
    from bench.execution.plan import Plan
    from bench.store.upkeep import look

    return Plan.of(_cells(matrix), look(directory)[1], options, directory)


def _cells(matrix: Matrix) -> list[PlannedCell]:
    from bench.matrix.cells import expand
    from bench.models.bridge import resolve_device
    from bench.models.load import model_digest
    from bench.plugins import install

    install(matrix.plugins)
    return expand(matrix, model_digest, resolve_device)


def plans_of(suite: Suite, options: RunOptions) -> dict[str, Plan]:
    """The plan of every preset that has cells which `options.only` names."""
    return {
        name: planned(suite.matrices[name], suite.directory / name, replace(options, only=only))
        for name, only in chosen(suite, options.only).items()
    }


@dataclass(frozen=True)
class Ended:
    """How a suite ended: failed cells by preset, presets that could not be run, the first page."""

    failed: dict[str, int]
    broken: list[str]
    page: Path


def run_suite(suite: Suite, options: RunOptions, console: Console) -> Ended:
    """Runs every preset of a suite, writes its report, and then the suite's first page.

    What is wrong with one preset leaves the others alone. Finished cells are not computed again.

    Returns:
        What failed, and the first page.

    Raises:
        UserInputError: where `options.only` names nothing in any preset.
    """
    from bench.execution.progress import TerminalProgress
    from bench.execution.run import run_matrix
    from reports.claims.write import write_claims
    from reports.write import ReportOptions, write_report

    parts = chosen(suite, options.only)
    left_out = [name for name in suite.matrices if name not in parts]
    presets = {name: suite.matrices[name] for name in parts}
    announcement = _announcement(replace(suite, matrices=presets))
    console.print(announcement, soft_wrap=True, highlight=False)
    if left_out:
        console.print(f"Without such a cell: {', '.join(left_out)}.", soft_wrap=True)
    failed: dict[str, int] = {}
    broken = []
    for place, (name, matrix) in enumerate(presets.items(), start=1):
        console.print(f"[bold]{name}[/bold] ({place} of {len(presets)})", highlight=False)
        directory = suite.directory / name
        try:
            with TerminalProgress(console) as progress:
                outcome = run_matrix(
                    matrix, directory, progress, replace(options, only=parts[name])
                )
            if outcome.failed:
                failed[name] = len(outcome.failed)
            write_report(directory, options=ReportOptions(figures=matrix.figures))
        except UserInputError as error:
            broken.append(name)
            print(f"Error in {name}: {visible(str(error))}", file=sys.stderr)
    suite.directory.mkdir(parents=True, exist_ok=True)
    page = write_claims(suite.directory, list(suite.matrices))
    return Ended(failed, broken, page)


def chosen(suite: Suite, only: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The presets that have cells which `only` names, each with the part of it that it knows.

    A preset whose cells cannot be told is among them: its run says what is wrong with it.

    Raises:
        UserInputError: if no preset has such a cell, or something in `only` names nothing at all.
    """
    if not only:
        return dict.fromkeys(suite.matrices, ())
    from bench.execution.plan import known_choices, select

    cells: dict[str, list[PlannedCell]] = {}
    broken: dict[str, tuple[str, ...]] = {}
    for name, matrix in suite.matrices.items():
        try:
            cells[name] = _cells(matrix)
        except UserInputError:
            broken[name] = tuple(only)
    if cells:
        select([cell for own in cells.values() for cell in own], only)
    known = {name: known_choices(own, only) for name, own in cells.items()} | broken
    found = {name: known[name] for name in suite.matrices if known[name]}
    if not found:
        raise UserInputError(f"--only: no preset of {suite.name} has a cell with all of it.")
    return found


def runs_of_suite(directory: Path) -> list[str]:
    """The presets whose results are in a folder, the paper's in its order; none of a run itself."""
    if (directory / RUN_FILE).exists():
        return []
    names = dict.fromkeys([*load_suite("paper").matrices, *preset_names()])
    return [name for name in names if (directory / name / RUN_FILE).exists()]


def report_suite(directory: Path, options: ReportOptions) -> Path:
    """Writes the report of every run of a suite anew, and the suite's first page."""
    from reports.claims.write import write_claims
    from reports.write import write_report

    presets = runs_of_suite(directory)
    for name in presets:
        write_report(directory / name, options=options)
    return write_claims(directory, presets)


def _announcement(suite: Suite) -> str:
    """How many cells are left and how long they take."""
    from bench.execution.plan import outlook

    plans = plans_of(suite, RunOptions()).values()
    finished, (left, seconds) = sum(len(plan.done) for plan in plans), outlook(plans)
    were = counted(finished, "cell is done already", "cells are done already")
    done = f"{were}; " if finished else ""
    takes = f", which takes {in_words(seconds)}" if left else ""
    presets = counted(len(suite.matrices), "preset")
    return f"{suite.name}: {presets}. {done}{counted(left, 'cell')} to compute{takes}."
