"""The size of files from anybody, which is checked before they are read."""

from pathlib import Path
from stat import S_ISDIR, S_ISREG

from tasks.errors import UserInputError

MAX_FILE = 64 * 2**20
"""Bytes of a file of prompts or scores."""


def check_size(path: Path, where: str) -> None:
    """Raise UserInputError for what is no file that can be read, or is too large.

    `where` leads the message.
    """
    try:
        str(path).encode()
        found = path.stat()
    except UnicodeEncodeError:  # of which no results could say what they are of
        shown = where.encode("ascii", "backslashreplace").decode()
        raise UserInputError(f"{shown}: its name is not UTF-8; rename it.") from None
    except (FileNotFoundError, ValueError):  # a path may hold what no name can
        raise UserInputError(f"{where}: there is no such file.") from None
    except OSError as error:
        raise UserInputError(f"{where} cannot be read: {error.strerror}.") from None
    if not S_ISREG(found.st_mode):
        what = "a directory" if S_ISDIR(found.st_mode) else "no ordinary file"
        raise UserInputError(f"{where}: that is {what}; a file is needed.")
    size = found.st_size
    if size > MAX_FILE:
        raise UserInputError(
            f"{where} has {size / 2**20:.0f} MiB; at most {MAX_FILE // 2**20} MiB are read."
        )
