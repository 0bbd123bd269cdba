"""A failure is a result, whatever exception it was and however much it says."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.execution.failure import kept, log_of
from bench.execution.run import run_matrix
from bench.matrix.options import RunOptions
from bench.store.cells import Cell
from bench.store.records import CellError
from bench.store.results import RunStore
from bench.store.texts import MAX_LOG, MAX_NOTES, MAX_TEXT, cut
from methods.grad_scalar import GradScalar
from methods.method import Attribution
from tasks.errors import message_of
from tests.small import small_matrix


class UnprintableError(Exception):
    """Raises where it is asked what it says."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class NoTextError(RuntimeError):
    """Says what is no text; and cannot be pickled."""

    def __init__(self, one: object, other: object) -> None:
        super().__init__(lambda: one)

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class LeavingError(Exception):
    """Ends the process where it is asked what it says."""

    def __str__(self) -> str:
        raise SystemExit(0)


UNHELPFUL = [
    (UnprintableError(), "UnprintableError", "cannot be shown: asking for it raised RuntimeError"),
    (NoTextError(1, 2), "NoTextError", "cannot be shown: asking for it raised TypeError"),
    (LeavingError(), "LeavingError", "cannot be shown: asking for it raised SystemExit"),
    (GeneratorExit(), "EscapedError", "GeneratorExit(GeneratorExit())"),
    (StopIteration(3), "StopIteration", "3"),
    (KeyError(), "KeyError", "KeyError()"),
    (ValueError("a \udcff b"), "ValueError", "a ? b"),
]


@pytest.mark.parametrize(("error", "kind", "words"), UNHELPFUL)
def test_an_unhelpful_exception_fails_its_cell_alone(
    error: BaseException,
    kind: str,
    words: str,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(GradScalar, "fit", fit)
    matrix = small_matrix(tiny_folder, methods=["grad_scalar", "dla"], controls={"draws": 0})
    outcome = run_matrix(matrix, tmp_path)
    (failed,) = outcome.failed
    assert failed.error is not None
    assert failed.error.kind == kind
    assert words in failed.error.message
    assert "fit" in failed.error.log
    assert len(outcome.computed) == 1


def test_what_cannot_even_be_traced_is_shown_as_far_as_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def format_exception(error: BaseException) -> list[str]:
        raise RecursionError

    monkeypatch.setattr("traceback.format_exception", format_exception)
    assert "ValueError: it" in log_of(ValueError("it"))
    assert "RecursionError" in log_of(kept(ValueError("it")))


PLUGIN = '''
from dataclasses import dataclass
from methods.grad_scalar import GradScalar

class UnprintableError(Exception):
    def __init__(self, one, other): super().__init__(lambda: one)
    def __str__(self): raise RuntimeError("no")

@dataclass(frozen=True)
class Hopeless(GradScalar):
    """Says nothing of use, or far too much."""
    how: str = "ok"
    def fit(self, *arguments):
        if self.how == "unprintable":
            raise UnprintableError(1, 2)
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "long":
            raise ValueError("long " * 1_000_000)
        return super().fit(*arguments)

METHODS = {"hopeless": Hopeless}
'''


def test_workers_give_the_kind_and_the_message_of_what_failed(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """None of these can be sent as they are."""
    (tmp_path / "hopeless.py").write_text(PLUGIN)
    hopeless = {"name": "hopeless", "how": ["unprintable", "interrupt", "long", "ok"]}
    matrix = small_matrix(tiny_folder, methods=[hopeless], controls={"draws": 0},
                          plugins=[str(tmp_path / "hopeless.py")])  # fmt: skip
    outcome = run_matrix(matrix, tmp_path / "run", options=RunOptions(workers=1))
    said = {error.kind: error.message for error in (one.error for one in outcome.failed) if error}
    assert said.keys() == {"UnprintableError", "EscapedError", "ValueError"}
    assert "cannot be shown: asking for it raised RuntimeError" in said["UnprintableError"]
    assert "KeyboardInterrupt" in said["EscapedError"]
    assert len(said["ValueError"]) <= MAX_TEXT
    assert len(outcome.computed) == 1


def test_long_texts_keep_their_head_and_their_tail() -> None:
    text = "".join(f"{number:07d}\n" for number in range(1_000_000))
    error = CellError(kind="K" * 10_000, message=text, log=text)
    assert MAX_TEXT - 10 < len(error.message) <= MAX_TEXT
    assert MAX_LOG - 10 < len(error.log) <= MAX_LOG
    for kept_text in (error.message, error.log):
        assert kept_text.startswith("0000000\n0000001\n")
        assert kept_text.endswith("0999999\n")
        head, _, rest = kept_text.partition("\n[... ")
        left_out, _, tail = rest.partition(" characters are left out ...]\n")
        assert len(head) + int(left_out) + len(tail) == len(text)
    assert CellError(kind="E", message=error.message, log=error.log).log == error.log
    assert len(error.kind) == 100
    assert cut("short", 100) == "short"


@pytest.mark.parametrize("message", ["x" * 1_000_000, "x\n" * 1_000_000, "", "\n\n first \nsecond"])
def test_a_line_of_an_error_is_a_short_one(message: str) -> None:
    line = CellError(kind="ValueError", message=message).line
    assert line.startswith("ValueError:")
    assert len(line) <= 200
    assert "\n" not in line


def gives(monkeypatch: pytest.MonkeyPatch, **said: Any) -> None:
    def fit(self: object, subject: object, prompts: object, grid: Any, setting: object) -> Any:
        return Attribution(torch.ones(grid.shape), **said)

    monkeypatch.setattr(GradScalar, "fit", fit)


def one_cell(tiny_folder: Path, folder: Path) -> Cell:
    matrix = small_matrix(tiny_folder, methods=["grad_scalar"], controls={"draws": 0})
    store = run_matrix(matrix, folder).store
    (cell_id,) = store.ids()
    return RunStore.open(folder).read(cell_id)


def test_notes_of_a_method_have_a_bound(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gives(monkeypatch, notes=("n" * 1_000_000, *map(str, range(1000))))
    notes = one_cell(tiny_folder, tmp_path).record.notes
    assert len(notes) == MAX_NOTES
    assert max(map(len, notes)) <= MAX_TEXT
    assert notes[-1].endswith("further notes are left out")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"extras": {"a \udcff": torch.zeros(1)}}, "surrogates not allowed"),
        ({"steps": 10**5000}, "from 0 to 9007199254740992"),
    ],
)
def test_what_cannot_be_stored_is_a_failed_cell(
    said: dict[str, Any],
    words: str,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "extras" in said:
        monkeypatch.setattr("bench.evaluation.attribution._masked", lambda values, *rest: values)
    gives(monkeypatch, **said)
    error = one_cell(tiny_folder, tmp_path).record.error
    assert error is not None
    assert words in error.message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "fit has to give an Attribution, not None"),
        (torch.ones(3), "fit has to give an Attribution, not a Tensor"),
        (Attribution([1.0, 2.0]), "the method's scores have to be a tensor, not a list"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_attribution_is_said(
    given: object, words: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GradScalar, "fit", lambda *arguments: given)
    error = one_cell(tiny_folder, tmp_path).record.error
    assert error is not None
    assert (error.kind, error.message) == ("BadScoresError", words)


def test_a_cell_too_large_to_be_read_again_is_a_failed_one(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.store.cells.MAX_BYTES", 1000)
    error = one_cell(tiny_folder, tmp_path).record.error
    assert error is not None
    assert "no more than 1000 can be stored" in error.message


def test_a_message_is_text_whatever_the_class_says() -> None:
    assert message_of(ValueError("it")) == "it"
    assert message_of(ValueError()) == "ValueError()"


def test_the_users_interrupt_is_not_taken_for_a_message() -> None:
    class InterruptedTextError(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        message_of(InterruptedTextError())
