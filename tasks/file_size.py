"""The size of files from anybody, which is checked before they are read."""

from pathlib import Path

from tasks.errors import UserInputError

MAX_FILE = 64 * 2**20
"""Bytes of a file of prompts or scores."""


def check_size(path: Path, where: str) -> None:
    """Raise UserInputError for a file that is not there or too large; `where` leads its message."""
    if not path.is_file():
        raise UserInputError(f"{where}: there is no such file.")
    size = path.stat().st_size
    if size > MAX_FILE:
        raise UserInputError(
            f"{where} has {size / 2**20:.0f} MiB; at most {MAX_FILE // 2**20} MiB are read."
        )
