"""A failure is a result, whatever exception it was and however much it says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.execution.run import run_matrix
from bench.store.cells import Cell
from bench.store.records import CellError
from bench.store.schema import MAX_LOG, MAX_TEXT, cut
from tasks.errors import message_of
from tests.small import RunOf, matrix_of, plug_in

CLASSES = """
from methods.method import Attribution

class UnprintableError(Exception):
    def __str__(self): raise RuntimeError("no")
    __repr__ = __str__

class NoTextError(RuntimeError):
    def __init__(self, one, other): super().__init__(lambda: one)
    def __str__(self): return 5

class LeavingError(Exception):
    def __str__(self): raise SystemExit(0)

def ones(found): return torch.ones_like(found.scores)
"""
CANNOT = "cannot be shown: asking for it raised"
EACH = "found.prompt_scores"
FAILURES = {
    "unprintable": ("raise UnprintableError()", "UnprintableError", f"{CANNOT} RuntimeError"),
    "no_text": ("raise NoTextError(1, 2)", "NoTextError", f"{CANNOT} TypeError"),
    "leaving": ("raise LeavingError()", "LeavingError", f"{CANNOT} SystemExit"),
    "generator": ("raise GeneratorExit()", "EscapedError", "GeneratorExit(GeneratorExit())"),
    "exit": ("raise SystemExit(0)", "EscapedError", "SystemExit(0)"),
    "stop": ("raise StopIteration(3)", "StopIteration", "3"),
    "key": ("raise KeyError()", "KeyError", "KeyError()"),
    "bytes": (r"raise ValueError('a \udcff b')", "ValueError", "a ? b"),
    "none": ("return None", "BadScoresError", "fit has to give an Attribution, not None"),
    "tensor": ("return torch.ones(3)", "BadScoresError", "give an Attribution, not a Tensor"),
    "list": ("return Attribution([1.0])", "BadScoresError", "have to be a tensor, not a list"),
    "nan": ("found.scores[0, 0, 0] = torch.nan", "BadScoresError", "NaN"),
    "shape": (f"return replace(found, prompt_scores={EACH}[:, :1])", "BadScoresError", ""),
    "mean": (f"return replace(found, prompt_scores={EACH} + 1)", "BadScoresError", ""),
    "finite": (f"return replace(found, prompt_scores={EACH} / 0)", "BadScoresError", ""),
    "name": (r"return replace(found, extras={'a \udcff': ones(found)})", "", "not allowed"),
    "steps": ("return Attribution(ones(found), steps=10**5000)", "", "from 0 to 9007199254740992"),
}
"""By what a method does wrong: how, as what it fails, and with which words."""


@pytest.fixture(scope="module")
def cells(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """One run of all of them, and of a method that does nothing wrong, by the method's label."""
    folder = tmp_path_factory.mktemp("bad")
    bad = {name: statement for name, (statement, _, _) in FAILURES.items()}
    plugins = [plug_in(folder / "bad.py", bad, CLASSES)]
    store = run_matrix(matrix_of(tiny_folder, *bad, "dla", plugins=plugins), folder / "run").store
    return {cell.record.method: cell for cell in map(store.read, store.ids())}


@pytest.mark.parametrize("how", FAILURES)
def test_what_is_of_no_help_or_cannot_be_stored_fails_its_cell_alone(
    how: str, cells: dict[str, Cell]
) -> None:
    _, kind, words = FAILURES[how]
    error = cells[how].record.error
    assert error is not None
    assert kind in ("", error.kind)
    assert words in error.message
    assert "Error" in error.log or "fit" in error.log
    assert cells["dla"].record.status == "done"


def test_a_cell_too_large_to_be_read_again_is_a_failed_one(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.store.cells.MAX_BYTES", 1000)
    (failed,) = run_of().failed
    assert failed.error is not None
    assert "no more than 1000 can be stored" in failed.error.message


def test_long_texts_keep_their_head_and_their_tail() -> None:
    text = "".join(f"{number:07d}\n" for number in range(200_000))
    error = CellError(kind="K" * 10_000, message=text, log=text)
    for kept, most in ((error.message, MAX_TEXT), (error.log, MAX_LOG)):
        assert most - 10 < len(kept) <= most
        head, _, rest = kept.partition("\n[... ")
        left_out, _, tail = rest.partition(" characters are left out ...]\n")
        assert (text[: len(head)], text[-len(tail) :]) == (head, tail)
        assert len(head) + int(left_out) + len(tail) == len(text)
    assert CellError(kind="E", message=error.message, log=error.log).log == error.log
    assert len(error.kind) == 100
    assert cut("short", 100) == "short"


@given(st.sampled_from(["x", "x\n", "\n\n first \nsecond"]) | st.text(), st.integers(1, 3_000))
def test_a_line_of_an_error_is_a_short_one(text: str, times: int) -> None:
    line = CellError(kind="ValueError", message=text * times).line
    assert line.startswith("ValueError:")
    assert len(line) <= 200
    assert "\n" not in line


def test_a_message_is_text_unless_its_user_interrupts() -> None:
    class InterruptedTextError(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    assert message_of(ValueError("it")) == "it"
    with pytest.raises(KeyboardInterrupt):
        message_of(InterruptedTextError())
