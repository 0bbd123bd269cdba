"""Progress as a terminal, a log file and a notebook see it."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from bench.evaluation.provenance import machine
from bench.execution.cell_runner import Watcher
from bench.execution.failure import failure
from bench.execution.progress import CellProgress, NotebookProgress, TerminalProgress
from bench.matrix.cells import PlannedCell
from bench.text import in_words
from tests.small import brief_matrix, planned


@pytest.fixture
def cells(tiny_folder: Path) -> list[PlannedCell]:
    return planned(brief_matrix(tiny_folder))


def run_badly(progress: Watcher, cells: list[PlannedCell]) -> None:
    """What a run of these cells says, of which the first is interrupted and all fail."""
    progress.planned(cells, 2, 5.0)
    progress.note("no <suite>\x1b[31m")
    progress.loading("tiny")
    progress.starting(cells[0])
    progress.interrupted(cells[0], "tcp://10.0.0.1:1: it \x1b[31mdied")
    for cell in cells:
        progress.starting(cell)
        progress.finished(cell, failure(cell, RuntimeError("no\x07good"), machine()))


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_file_has_a_line_a_cell_and_a_terminal_a_bar(
    cells: list[PlannedCell], terminal: bool
) -> None:
    """And neither has control characters of somebody else's."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)
    with TerminalProgress(console) as progress:
        run_badly(progress, cells)
    text = console.file.getvalue()
    assert "\x07" not in text
    assert "\x1b[31m" not in text
    if terminal:
        assert "0 of 4 done, 4 failed" in text
        assert "no\\x07good" in text
        return
    assert not set(text) & {"\r", "\x1b"}
    first, refused, loading, waits, *lines = text.splitlines()
    already = "2 cells are done already and stay as they are; "
    assert first == already + "4 cells to compute, which takes about 5 s."
    assert (refused, loading) == ("no <suite>\\x1b[31m", "  loading tiny")
    assert "waits again: tcp://10.0.0.1:1: it \\x1b[31mdied" in waits
    assert lines[0].endswith("failed: RuntimeError: no\\x07good  (0 of 4 done, 1 failed)")
    assert lines[-1].endswith("(0 of 4 done, 4 failed)")
    assert len(lines) == len(cells)


class Handle(list[dict[str, str]]):
    """A display of a notebook that keeps all that it showed."""

    def update(self, data: dict[str, str], raw: bool) -> None:
        assert raw
        self.append(data)


def test_a_notebook_ends_with_what_was_done_and_what_failed(tiny_folder: Path) -> None:
    matrix = brief_matrix(tiny_folder, seeds=[0, 1], methods=["grad_scalar"], controls={"draws": 0})
    progress = NotebookProgress(seen := Handle())
    run_badly(progress, planned(matrix))
    progress.close()
    assert "2 cells are done already" in seen[0]["text/plain"]
    assert any("ioi grad_scalar seed 0" in data["text/plain"] for data in seen)
    text, page = seen[-1]["text/plain"], seen[-1]["text/html"]
    assert text.startswith("0 of 2 done, 2 failed in about 1 s\nno <suite>")
    assert "(2 times)" in text  # one line a reason and method
    assert page.startswith('<progress value="2" max="2"></progress> 0 of 2')
    assert "no &lt;suite&gt;\\x1b[31m<br>" in page


def test_a_run_with_nothing_to_do_says_so_in_a_notebook() -> None:
    progress = NotebookProgress(seen := Handle())
    progress.planned([], 4, None)
    progress.close()
    words = "4 cells are done already and stay as they are; 0 cells to compute."
    assert seen[-1]["text/plain"] == words


def test_counts_know_the_time_that_is_left(
    cells: list[PlannedCell], monkeypatch: pytest.MonkeyPatch
) -> None:
    def now(seconds: float) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: seconds)

    failed = failure(cells[0], RuntimeError(), machine())
    done = failed.model_copy(update={"error": None, "status": "done"})
    counts = CellProgress()
    now(100.0)
    counts.planned(cells, 0, None)
    assert counts.in_words() == "0 of 4 done"
    counts.starting(cells[0])
    counts.starting(cells[1])
    now(110.0)
    assert counts.in_words() == "0 of 4 done, 2 running"
    now(160.0)
    counts.finished(cells[0], done)
    counts.interrupted(cells[1], "")
    counts.finished(cells[1], failed)
    # What fails at once says nothing about the pace of the others.
    left = 60 / counts.rows[cells[0].id] * sum(counts.rows[cell.id] for cell in cells[2:])
    assert counts.in_words() == f"1 of 4 done, 1 failed, {in_words(left)} left"
    for cell in cells[2:]:
        counts.finished(cell, done)
    assert counts.in_words() == "3 of 4 done, 1 failed"
    assert counts.in_words(ended=True) == "3 of 4 done, 1 failed in about 60 s"
