"""Crash safety with the real parts: kill -9, a full disk, altered bytes, two writers."""

import itertools
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.execution.cell_runner import Watcher
from bench.execution.run import run_matrix
from bench.matrix.schema import Matrix
from bench.store.layout import (
    CELL_FILE,
    TENSOR_FILE,
    BusyError,
    NotWritableError,
    claim,
    is_busy,
    only_writer,
)
from bench.store.results import RunStore
from bench.store.upkeep import look, survey, tidy
from tasks.errors import UserInputError
from tests.small import brief_matrix

FORK = multiprocessing.get_context("fork")
"""The imports are there: a start takes no time."""


def tiny_matrix(folder: Path, **changes: object) -> Matrix:
    """A matrix of three cells that takes as little as it can."""
    few = {"methods": ["grad_scalar"], "prompts": {"train": 1, "test": 2, "shifted": 0}}
    return brief_matrix(folder, sweep={"points": 3}, agreement={"resamples": 2}, **few, **changes)


@pytest.fixture(scope="module")
def matrix(tiny_folder: Path) -> Matrix:
    return tiny_matrix(tiny_folder)


@pytest.fixture(scope="module")
def finished(matrix: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run_matrix(matrix, folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def numbers(folder: Path) -> dict[str, object]:
    """Everything of a run but timings and the time."""
    store = RunStore.open(folder)
    found = {}
    for cell_id in store.ids():
        cell = store.read(cell_id)
        record = cell.record.model_dump_json(exclude={"provenance"})
        found[cell_id] = (record, {name: t.tobytes() for name, t in cell.tensors.items()})
    return found


class Noting(Watcher):
    """Keeps what was said to be set aside."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def note(self, sentence: str) -> None:
        self.sentences.append(sentence)


def test_100_altered_bytes_at_random_places_are_each_noticed(run: Path) -> None:
    draw = random.Random(7)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    for _ in range(100):
        file = draw.choice(files)
        content = file.read_bytes()
        at = draw.randrange(len(content))
        altered = content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
        file.write_bytes(altered)
        try:
            named = " ".join(survey(RunStore.open(run)).problems.values())
        except ValueError as error:  # run.json: the run does not open
            named = str(error)
        assert str(file) in named, (file, at)
        file.write_bytes(content)
    assert not survey(RunStore.open(run)).problems


def test_damaged_and_foreign_files_are_named_set_aside_and_recomputed(
    run: Path, matrix: Matrix
) -> None:
    whole = numbers(run)
    first, second, third = sorted((run / "cells").iterdir())
    (first / CELL_FILE).write_bytes((first / CELL_FILE).read_bytes()[:100])
    (second / TENSOR_FILE).unlink()
    (third / "notes.txt").write_text("mine")
    (run / "cells" / "stray").write_text("?")
    (run / "results.csv").write_text("model,E_0\n")
    (run / "cells" / ".DS_Store").write_text("a file manager's")
    (run / ".writing-1-run.json").write_text("half")
    (run / ".writing-2").mkdir()

    told = Noting()
    assert set(run_matrix(matrix, run, told).computed) == {first.name, second.name}
    said = "\n".join(told.sentences)
    for path in (first, second, third / "notes.txt", run / "cells" / "stray", run / "results.csv"):
        assert str(path) in said
    kept = {path.name for path in (run / "set-aside").iterdir()}
    names = {first.name, second.name, "stray", f"{third.name}--notes.txt", "reasons.jsonl"}
    assert kept == names
    assert not list(run.glob(".writing*"))
    assert numbers(run) == whole
    assert len((run / "results.csv").read_text().splitlines()) > 10
    assert_whole(run, matrix, {"known": 3})


def assert_whole(run: Path, matrix: Matrix, cells: dict[str, int]) -> None:
    """A further run has nothing to set aside, and has the cells that it has by these ways."""
    told = Noting()
    outcome = run_matrix(matrix, run, told)
    assert {way: len(getattr(outcome, way)) for way in cells} == cells
    assert not told.sentences
    assert not list(run.glob(".writing*"))


def test_an_altered_run_file_does_not_end_a_run(run: Path, matrix: Matrix) -> None:
    content = (run / "run.json").read_bytes()
    (run / "run.json").write_bytes(content[: len(content) // 2])
    told = Noting()
    outcome = run_matrix(matrix, run, told)
    assert (len(outcome.known), outcome.computed) == (3, [])
    assert (run / "set-aside" / "run.json").is_file()
    (said,) = told.sentences
    assert str(run / "run.json") in said


def test_kill_9_at_20_random_moments_loses_nothing(
    finished: Path, matrix: Matrix, tmp_path: Path
) -> None:
    """A run in a forked process, killed again and again, is in the end the uninterrupted one."""
    folder, draw, duration = tmp_path / "run", random.Random(3), 0.0
    for kill in range(21):
        start = time.perf_counter()
        process = FORK.Process(target=run_matrix, args=(matrix, folder))
        process.start()
        process.join(draw.uniform(0, duration) if kill else None)
        process.kill()
        process.join()
        duration = duration or time.perf_counter() - start
        if process.exitcode == 0:
            shutil.rmtree(folder)  # it was done: the next one starts from nothing
    assert_whole(folder, matrix, {"failed": 0})
    assert numbers(folder) == numbers(finished)


def test_kill_9_at_every_write_of_the_tables_loses_nothing(
    finished: Path, run: Path, matrix: Matrix
) -> None:
    """The cells are done; whoever makes the tables is killed at its first write, its second ..."""
    for writes in itertools.count():
        (run / "tables.json").unlink(missing_ok=True)
        process = FORK.Process(target=run_and_die, args=(matrix, run, writes))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert_whole(run, matrix, {"computed": 0})
        for name in ("results.csv", "agreement.csv"):
            assert (run / name).read_bytes() == (finished / name).read_bytes()
    assert writes >= 10


def run_and_die(matrix: Matrix, folder: Path, writes: int) -> None:
    """Runs a matrix, and ends like a process that is killed when it has written so often."""
    real, done = os.fsync, itertools.count()

    def fsync(descriptor: int) -> None:
        if next(done) == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync
    run_matrix(matrix, folder)


@contextmanager
def room(size: int) -> Iterator[None]:
    """A disk with room for files of this size, which the system enforces on every write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_a_full_disk_is_said_and_the_rest_is_done_when_there_is_room(
    finished: Path, matrix: Matrix, tmp_path: Path, size: int
) -> None:
    folder = tmp_path / "run"
    for _ in range(2):  # the same command again, before there is room
        with room(size), pytest.raises(NotWritableError, match="File too large"):
            run_matrix(matrix, folder)
    assert not list(folder.glob(".writing*"))
    run_matrix(matrix, folder)
    assert numbers(folder) == numbers(finished)


def test_a_finished_run_on_a_full_disk_says_so_too(run: Path, matrix: Matrix) -> None:
    """Not even who writes it can be written; nor can what is damaged be set aside."""
    with room(10):
        with pytest.raises(NotWritableError, match="make room"):
            run_matrix(matrix, run)
        (run / "cells" / "stray").write_text("?")
        store, found = look(run)
        with pytest.raises(NotWritableError, match="make room"):
            tidy(store, found)
    assert not run_matrix(matrix, run).computed


def test_a_new_directory_is_its_owners_before_a_model_is_loaded(
    tiny_folder: Path, matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two runs started together, the second one says so before it has done any work."""
    with pytest.raises(UserInputError, match="99 is outside"):
        run_matrix(tiny_matrix(tiny_folder, positions=[99]), tmp_path / "some" / "where")
    monkeypatch.setattr("bench.execution.cell_runner.load_model", None)
    monkeypatch.setattr("bench.execution.executor.model_digest", None)
    with claim(tmp_path / "new"), pytest.raises(BusyError, match="is being written by process"):
        run_matrix(matrix, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_second_writer_says_who_the_first_is(run: Path, matrix: Matrix) -> None:
    assert not is_busy(run)
    with only_writer(run):
        assert is_busy(run)
        with pytest.raises(BusyError, match=f"process {os.getpid()} on .* --reuse"):
            run_matrix(matrix, run)
    run_matrix(matrix, run)


def test_two_runs_at_once_leave_one_whole_run(
    finished: Path, matrix: Matrix, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    both = [FORK.Process(target=run_or_busy, args=(matrix, folder)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    codes = {process.exitcode for process in both}
    assert 0 in codes <= {0, 3}
    assert numbers(folder) == numbers(finished)


def run_or_busy(matrix: Matrix, folder: Path) -> None:
    try:
        run_matrix(matrix, folder)
    except BusyError:
        os._exit(3)
