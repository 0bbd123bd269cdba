"""How checks are run: one after the other, each with a sentence on what it makes sure of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from bench.running.contained import contained
from tasks.errors import UserInputError, message_of

T = TypeVar("T")


class NotConformingError(AssertionError):
    """Something is not kept; the message says what has to be different."""


def require(condition: object, words: str) -> None:
    """Raises NotConformingError with these words unless the condition holds."""
    if not condition:
        raise NotConformingError(words)


def check_line(summary: str, what: str) -> None:
    """Raises NotConformingError for a line in `list` that is none."""
    require(summary.strip() == summary != "", f"the line in `list` has to say what the {what} is")
    require("\n" not in summary and len(summary) <= 90, "that line has 90 characters at most")


def run_checks(
    case_of: Callable[[], T], checks: Sequence[Callable[[T], None]]
) -> Iterator[tuple[str, str]]:
    """Each check in words, and why it fails ("" if it does not).

    Args:
        case_of: makes what is checked; what is wrong with that ends the checks.
        checks: each says in its docstring what it makes sure of.
    """
    case = None
    for check in checks:
        words = (check.__doc__ or check.__name__).strip()
        try:
            with contained():
                case = case or case_of()
                check(case)
            yield words, ""
        except Exception as error:
            said = isinstance(error, NotConformingError)
            said = said or (case is None and isinstance(error, UserInputError))
            raised = "" if said else f"it raises {type(error).__name__}: "
            yield words, raised + message_of(error)
            if case is None:
                return
