"""Somebody else's code leaves the process as it was, whatever it does to it."""

import os
import sys
import threading
from pathlib import Path

import pytest
import yaml

from bench.running.contained import EscapedError, contained
from bench.store.results import RunStore
from tests.bench.cli.test_cli import command
from tests.small import small_matrix

PLUGIN = '''
import io, os, sys
from dataclasses import dataclass
from methods.grad_scalar import GradScalar

os.chdir("/")

@dataclass(frozen=True)
class Moving(GradScalar):
    """Does something to the process."""
    how: str = "ok"
    def fit(self, *arguments):
        if self.how == "moves":
            os.chdir("/")
        if self.how == "closes":
            print("said before")
            sys.stdout.close()
            sys.stderr.close()
        if self.how == "replaces":
            sys.stdout = sys.stderr = io.StringIO()
        return super().fit(*arguments)

METHODS = {"moving": Moving}
'''


def test_a_run_goes_on_where_it_was_and_ends_with_its_last_lines(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("moving.py").write_text(PLUGIN)
    moving = {"name": "moving", "how": ["moves", "closes", "replaces", "ok"]}
    matrix = small_matrix(tiny_folder, methods=[moving], controls={"draws": 0}, output="here")
    Path("mine.yaml").write_text(yaml.safe_dump(matrix.model_dump() | {"plugins": ["moving.py"]}))
    assert command(monkeypatch, "run", "mine.yaml", "--plugin", "moving.py") == 0
    shown = capsys.readouterr()
    assert "said before" in shown.out
    assert "results: here" in shown.out
    assert (shown.err, os.getcwd()) == ("", str(tmp_path))
    assert len(RunStore.open("here").ids()) == 4
    assert (tmp_path / "here" / "report" / "index.html").is_file()


def test_a_place_that_is_gone_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with contained():
        (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError):
        os.getcwd()
    with contained():
        os.chdir(tmp_path)
    assert Path.cwd() == tmp_path


def test_only_the_users_own_interrupt_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt), contained():
        raise KeyboardInterrupt
    caught = []

    def work() -> None:
        try:
            with contained():
                raise KeyboardInterrupt
        except EscapedError as error:
            caught.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "KeyboardInterrupt" in caught[0]


def test_a_process_without_streams_stays_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with contained():
        assert sys.stdout is None
    assert sys.stdout is None
