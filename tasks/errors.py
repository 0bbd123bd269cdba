"""The error type for mistakes in what a user wrote, its hints, and code that would end a run."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

LONGEST_SHOWN = 300
"""Characters of a value in a message."""


class UserInputError(ValueError):
    """A mistake in the user's own input.

    The message says what was wrong, where, and what would be right. The command line prints it
    without a traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence, led by a space, that names the known name nearest to `name`.

    `' Did you mean "stem"? Known: paper, stem.'`; without the question where nothing is near.
    Upper and lower case are not told apart.
    """
    names = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    question = f' Did you mean "{folded[near[0]]}"?' if near else ""
    return f"{question} Known: {', '.join(names) if names else 'none'}."


def message_of(error: BaseException) -> str:
    """Return what an exception says, and of one that says nothing its `repr`.

    Whatever its class does when it is asked: it may be anybody's. The text can be written as UTF-8.
    """
    try:
        text = str(error) or repr(error)
        return str.encode(text, "utf-8", "replace").decode()
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        return f"(its message cannot be shown: asking for it raised {type(second).__name__})"


def shown(value: object) -> str:
    """Return a value of the user's as a message shows it: no longer than a line or two."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


class EscapedError(RuntimeError):
    """A method, task or model raised what is no Exception: it asked for the process to end."""


@contextmanager
def no_exit() -> Iterator[None]:
    """Around code that is not the suite's: `sys.exit` in it is an error like any other.

    The user's own interrupt (Ctrl-C, which comes in the main thread) goes through.

    Raises:
        EscapedError: for whatever is raised that is no Exception.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        in_main = threading.current_thread() is threading.main_thread()
        if isinstance(error, KeyboardInterrupt) and in_main:
            raise
        raise EscapedError(
            f"it raised {type(error).__name__}({message_of(error)}), which would end the whole "
            "run; a method, task or model that cannot go on raises an Exception"
        ) from error
