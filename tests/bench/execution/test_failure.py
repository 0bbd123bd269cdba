"""A failure is a result, whatever exception it was and however much it says."""

from pathlib import Path

import pytest

from bench.execution.run import run_matrix
from bench.store.cells import Cell
from bench.store.records import CellError
from bench.store.schema import MAX_LOG, MAX_TEXT, cut
from tasks.errors import message_of
from tests.small import brief_matrix

PLUGIN = r'''
import torch
from dataclasses import dataclass, replace
from methods.grad_scalar import GradScalar
from methods.method import Attribution

class UnprintableError(Exception):
    def __str__(self): raise RuntimeError("no")
    __repr__ = __str__

class NoTextError(RuntimeError):
    def __init__(self, one, other): super().__init__(lambda: one)
    def __str__(self): return 5

class LeavingError(Exception):
    def __str__(self): raise SystemExit(0)

RAISED = {
    "unprintable": UnprintableError(), "no_text": NoTextError(1, 2), "leaving": LeavingError(),
    "generator": GeneratorExit(), "stop": StopIteration(3), "key": KeyError(),
    "bytes": ValueError("a \udcff b"),
}

@dataclass(frozen=True)
class Bad(GradScalar):
    """Raises what is of no help, or gives what is no attribution or cannot be stored."""
    how: str = "unprintable"
    def fit(self, subject, prompts, grid, setting):
        if self.how in RAISED:
            raise RAISED[self.how]
        found = super().fit(subject, prompts, grid, setting)
        each, scores, ones = found.prompt_scores, found.scores.clone(), torch.ones(grid.shape)
        scores[0, 0, 0] = torch.nan
        return {
            "none": None,
            "tensor": torch.ones(3),
            "list": Attribution([1.0, 2.0]),
            "nan": Attribution(scores),
            "shape": replace(found, prompt_scores=each[:, :1]),
            "mean": replace(found, prompt_scores=each + each.abs().max()),
            "finite": replace(found, prompt_scores=each / 0),
            "name": Attribution(ones, extras={"a \udcff": ones}),
            "steps": Attribution(ones, steps=10**5000),
        }[self.how]

METHODS = {"bad": Bad}
'''
CANNOT = "cannot be shown: asking for it raised"
FAILURES = {
    "unprintable": ("UnprintableError", f"{CANNOT} RuntimeError"),
    "no_text": ("NoTextError", f"{CANNOT} TypeError"),
    "leaving": ("LeavingError", f"{CANNOT} SystemExit"),
    "generator": ("EscapedError", "GeneratorExit(GeneratorExit())"),
    "stop": ("StopIteration", "3"),
    "key": ("KeyError", "KeyError()"),
    "bytes": ("ValueError", "a ? b"),
    "none": ("BadScoresError", "fit has to give an Attribution, not None"),
    "tensor": ("BadScoresError", "fit has to give an Attribution, not a Tensor"),
    "list": ("BadScoresError", "the method's scores have to be a tensor, not a list"),
    "nan": ("BadScoresError", "NaN"),
    "shape": ("BadScoresError", ""),
    "mean": ("BadScoresError", ""),
    "finite": ("BadScoresError", ""),
    "name": ("", "surrogates not allowed"),
    "steps": ("", "from 0 to 9007199254740992"),
}


@pytest.fixture(scope="module")
def cells(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """One run of all of them, and of a method that does nothing wrong, by what they did."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "bad.py").write_text(PLUGIN)
    bad = {"name": "bad", "how": [*FAILURES]}
    matrix = brief_matrix(
        tiny_folder,
        methods=[bad, "dla"],
        controls={"draws": 0},
        plugins=[str(folder / "bad.py")],
    )
    store = run_matrix(matrix, folder / "run").store
    read = map(store.read, store.ids())
    return {str(cell.record.settings["method"].get("how", "dla")): cell for cell in read}


@pytest.mark.parametrize("how", FAILURES)
def test_what_is_of_no_help_or_cannot_be_stored_fails_its_cell_alone(
    how: str, cells: dict[str, Cell]
) -> None:
    kind, words = FAILURES[how]
    error = cells[how].record.error
    assert error is not None
    assert kind in ("", error.kind)
    assert words in error.message
    assert "Error" in error.log or "fit" in error.log
    assert cells["dla"].record.status == "done"


def test_a_cell_too_large_to_be_read_again_is_a_failed_one(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.store.cells.MAX_BYTES", 1000)
    matrix = brief_matrix(tiny_folder, methods=["dla"], controls={"draws": 0})
    (failed,) = run_matrix(matrix, tmp_path).failed
    assert failed.error is not None
    assert "no more than 1000 can be stored" in failed.error.message


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


def test_a_message_is_text_whatever_the_class_says() -> None:
    assert message_of(ValueError("it")) == "it"
    assert message_of(ValueError()) == "ValueError()"


def test_the_users_interrupt_is_not_taken_for_a_message() -> None:
    class InterruptedTextError(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        message_of(InterruptedTextError())
