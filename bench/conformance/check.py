"""How checks are run: one after the other, each with a sentence on what it makes sure of."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import FrozenInstanceError
from typing import Any, NamedTuple, TypeVar

from tasks.errors import EscapedError, UserInputError, message_of, no_exit

T = TypeVar("T")
Check = Callable[[T], None]


class NotConformingError(AssertionError):
    """Something is not kept; the message says what has to be different."""


class Outcome(NamedTuple):
    """What came of a check.

    Attributes:
        words: what it makes sure of.
        problem: why it fails, or why nobody can tell; "" if it passed.
        judged: False where nobody can tell, since something more basic failed.
    """

    words: str
    problem: str = ""
    judged: bool = True

    @property
    def verdict(self) -> str:
        """One word on it."""
        if not self.judged:
            return "skipped"
        return "FAILED" if self.problem else "passed"


def require(condition: object, words: str) -> None:
    """Raises NotConformingError with these words unless the condition holds."""
    if not condition:
        raise NotConformingError(words)


def check_line(summary: str, what: str) -> None:
    """Raises NotConformingError for a line in `list` that is none."""
    require(summary.strip() == summary != "", f"the line in `list` has to say what the {what} is")
    require("\n" not in summary and len(summary) <= 90, "that line has 90 characters at most")


def check_names(case: Any, what: str, told: str) -> None:
    """Raises NotConformingError for an unusual name, no line in `list`, or no docstring.

    Args:
        case: a method's or a task's.
        what: which of the two.
        told: what its docstring has to tell.
    """
    require(
        case.name == case.name.lower() and case.name.isidentifier(),
        "the name has to be lower-case letters, digits and _",
    )
    check_line(case.entry.summary, what)
    require(case.kind.__doc__, f"the class has to have a docstring: {told}")


def check_frozen(one: Any, other: Any) -> None:
    """Raises NotConformingError unless the two, of the same settings, are equal and stay so."""
    try:
        one.some_state = 1
    except FrozenInstanceError:
        pass
    else:
        raise NotConformingError("the dataclass has to be frozen: @dataclass(frozen=True)")
    require(one == other, "two with the same settings have to be equal")


def needs(*basic: Check[T]) -> Callable[[Check[T]], Check[T]]:
    """A check that says nothing where one of these more basic ones has failed."""

    def mark(check: Check[T]) -> Check[T]:
        check.needs = basic  # type: ignore[attr-defined]
        return check

    return mark


def run_checks(case_of: Callable[[], T], checks: Sequence[Check[T]]) -> Iterator[Outcome]:
    """Each check with what came of it.

    Args:
        case_of: makes what is checked; what is wrong with that ends the checks.
        checks: each says in its docstring what it makes sure of, and comes after those it needs.
    """
    case: T | None = None
    failed: dict[Any, str] = {}
    for check in checks:
        words = (check.__doc__ or str(check)).strip()
        missing = [failed[basic] for basic in getattr(check, "needs", ()) if basic in failed]
        if missing:
            failed[check] = missing[0]  # what failed itself is named to the last
            yield Outcome(words, f'nobody can tell, as this failed: "{missing[0]}"', judged=False)
            continue
        problem = ""
        try:
            with no_exit():
                case = case or case_of()
                check(case)
        except Exception as error:
            problem = problem_of(error, getattr(case, "file", None))
            failed[check] = words
        if case is None:
            yield Outcome("it can be made ready", problem)
            return
        yield Outcome(words, problem)


def problem_of(error: Exception, file: str | None) -> str:
    """What an error says is wrong, with the last line of `file` on its way, or else of any file."""
    if isinstance(error, NotConformingError):
        return str(error)
    escaped = isinstance(error, EscapedError)
    cause = error.__cause__ if escaped and error.__cause__ else error
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    text = message_of(error)
    if isinstance(error, UserInputError) and not own:
        return text  # says itself where
    if not escaped:
        said = f": {text}" if text != repr(error) else " without a message"
        text = f"it raises {type(error).__name__}{said}"
    last = (own or [*frames])[-1:]
    return text + "".join(f" ({at.filename} line {at.lineno}: {at.line})" for at in last)
