"""Texts of methods and plug-ins, cut to the length that a record keeps.

A record with all of it could grow too large to be read again, and no table would show it.
"""

from typing import Annotated

from pydantic import AfterValidator

MAX_NAME, MAX_LINE, MAX_TEXT, MAX_LOG = 100, 200, 2_000, 100_000
"""Characters of what a method says in a record: names, first lines, messages and notes, logs."""
MAX_NOTES = 100


def cut(text: str, most: int) -> str:
    """Return `text`, or its head and its tail with how much is left out, at most so long."""
    if len(text) <= most:
        return text
    room = most - len(f"\n[... {len(text)} characters are left out ...]\n")
    head = room // 2
    left_out = len(text) - room
    return f"{text[:head]}\n[... {left_out} characters are left out ...]\n{text[head - room :]}"


def few(notes: list[str]) -> list[str]:
    """Return `notes`, at most `MAX_NOTES` of them."""
    if len(notes) <= MAX_NOTES:
        return notes
    kept = notes[: MAX_NOTES - 1]
    return [*kept, f"{len(notes) - len(kept)} further notes are left out"]


def first_line(text: str) -> str:
    """Return the first line of `text` that says something, at most `MAX_LINE` characters."""
    line = (text.strip().splitlines() or [""])[0]
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


Name = Annotated[str, AfterValidator(lambda text: text[:MAX_NAME])]
Text = Annotated[str, AfterValidator(lambda text: cut(text, MAX_TEXT))]
Log = Annotated[str, AfterValidator(lambda text: cut(text, MAX_LOG))]
Notes = Annotated[list[Text], AfterValidator(few)]
