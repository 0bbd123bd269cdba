"""Progress as a terminal and as a log file see it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bench.evaluation.provenance import machine
from bench.execution.failure import failure
from bench.execution.progress import CellCounts, TerminalProgress
from bench.matrix.cells import PlannedCell, expand
from tests.small import brief_matrix


@pytest.fixture
def cells(tiny_folder: Path) -> list[PlannedCell]:
    return expand(brief_matrix(tiny_folder), lambda name: name, lambda device: device)


def shown(cells: list[PlannedCell], *, terminal: bool) -> str:
    """What a run of these cells writes, of which the first is interrupted and then fails."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, color_system=None)
    with TerminalProgress(console) as progress:
        progress.planned(cells, 0, 5.0)
        progress.loading("tiny")
        progress.starting(cells[0])
        progress.interrupted(cells[0], "tcp://10.0.0.1:1: it \x1b[31mdied")
        for cell in cells:
            progress.starting(cell)
            progress.finished(cell, failure(cell, RuntimeError("no\x07good"), machine()))
    return text.getvalue()


def test_a_log_file_has_a_line_a_cell_and_no_control_characters(cells: list[PlannedCell]) -> None:
    text = shown(cells, terminal=False)
    lines = text.splitlines()
    assert len(lines) == 3 + len(cells)
    assert lines[0] == "4 cells to compute, which takes about 5 s."
    assert lines[1] == "  loading tiny"
    assert "waits again: tcp://10.0.0.1:1: it \\x1b[31mdied  (0 of 4 done)" in lines[2]
    assert lines[3].endswith("failed: RuntimeError: no\\x07good  (0 of 4 done, 1 failed)")
    assert lines[-1].endswith("(0 of 4 done, 4 failed)")
    assert not set(text) & {"\r", "\x1b", "\x07"}


def test_a_terminal_has_a_bar_with_the_counts(cells: list[PlannedCell]) -> None:
    text = shown(cells, terminal=True)
    assert "0 of 4 done, 4 failed" in text
    assert "no\\x07good" in text
    assert "\x1b[31m" not in text


def test_counts_know_the_time_that_is_left(cells: list[PlannedCell]) -> None:
    assert len(cells) == 4
    counts = CellCounts(cells, now=100.0)
    assert counts.in_words(now=100.0) == "0 of 4 done"
    counts.starts(cells[0])
    counts.starts(cells[1])
    assert counts.in_words(now=110.0) == "0 of 4 done, 2 running"
    counts.ends(cells[0], failed=False)
    rows = counts.rows
    rest = sum(rows[cell.id] for cell in cells[1:])
    assert counts.seconds_left(now=160.0) == pytest.approx(60 / rows[cells[0].id] * rest)
    counts.waits(cells[1])
    counts.ends(cells[1], failed=True)
    # What fails at once says nothing about the pace of the others.
    left = rest - rows[cells[1].id]
    assert counts.seconds_left(now=160.0) == pytest.approx(60 / rows[cells[0].id] * left)
    assert counts.in_words(now=160.0).startswith("1 of 4 done, 1 failed, about ")
    for cell in cells[2:]:
        counts.ends(cell, failed=False)
    assert counts.in_words(now=200.0) == "3 of 4 done, 1 failed"
