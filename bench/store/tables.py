"""The tables of a run directory, what they were made of, and the digests that guard them."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.store.files import (
    DamagedError,
    dump,
    file_digest,
    parse,
    read_sealed,
    replace_file,
    seal,
)
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from pandas import DataFrame

TABLES_FILE = "tables.json"
"""`made_of`: what the tables were made of; `files`: their digests by name."""
FORMULAS = ("=", "+", "-", "@", "\t")
REMEDY = "The same `python -m bench run` makes it anew from the cells."


class CorruptTableError(UserInputError):
    """A table of a run, or the file that describes them, was altered; the message names it."""


class StoredTables:
    """Tables as <name>.parquet and <name>.csv, and `tables.json` beside them.

    A table counts once `tables.json` says so: what a killed process left half done does not.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / TABLES_FILE

    def write(self, name: str, frame: "DataFrame", made_of: str = "") -> None:
        """Write a table in both formats, each whole; all tables that are there are `made_of` this.

        Raises OSError as the disk does.
        """
        files = self._described()["files"]
        self.forget()
        for ending, content in (
            ("parquet", frame.to_parquet(index=False)),
            ("csv", spreadsheet_safe(frame).to_csv(index=False).encode()),
        ):
            replace_file(self.directory / f"{name}.{ending}", content)
            files[f"{name}.{ending}"] = hashlib.sha256(content).hexdigest()
        replace_file(self.file, seal(dump({"made_of": made_of, "files": files})))

    def read(self, name: str) -> "DataFrame | None":
        """A table, None where there is none. Raises CorruptTableError where it was altered."""
        file = self.directory / f"{name}.parquet"
        digest = self._described()["files"].get(file.name)
        if digest is None:
            return None
        if problem := _problem(file, digest):
            raise CorruptTableError(problem)
        from pandas import read_parquet

        return read_parquet(file)

    def made_of(self) -> str:
        """What the tables were made of, "" where there are none or some are missing.

        Raises CorruptTableError where one was altered.
        """
        for reason in self.damaged().values():
            raise CorruptTableError(reason)
        return str(self._described()["made_of"])

    def damaged(self) -> dict[Path, str]:
        """The files that were altered or are missing, and a sentence on each."""
        try:
            stated = self._described()["files"]
        except CorruptTableError as error:
            return {self.file: str(error)}
        files = {self.directory / Path(name).name: digest for name, digest in stated.items()}
        problems = {file: _problem(file, digest) for file, digest in files.items()}
        return {file: problem for file, problem in problems.items() if problem}

    def forget(self) -> None:
        """Take all tables for missing, so that they are made anew."""
        self.file.unlink(missing_ok=True)

    def _described(self) -> dict[str, Any]:
        if not self.file.exists():
            return {"made_of": "", "files": {}}
        try:
            return parse(read_sealed(self.file)[0])
        except DamagedError as error:
            raise CorruptTableError(f"{self.file} {error}. {REMEDY}") from None


def spreadsheet_safe(frame: "DataFrame") -> "DataFrame":
    """The table with an apostrophe before every text that a spreadsheet would run as a formula."""
    from pandas.api.types import is_object_dtype, is_string_dtype

    safe = frame.copy()
    for name, column in frame.items():
        if is_string_dtype(column.dtype) or is_object_dtype(column.dtype):
            safe[name] = column.map(_no_formula)
    return safe


def _no_formula(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\\r")  # unquoted, it would begin a new row
    return f"'{text}" if text.startswith(FORMULAS) else text


def _problem(file: Path, digest: str) -> str:
    """What is wrong with a table's file, in a sentence; "" if it is what was written."""
    try:
        what = "" if file_digest(file) == digest else "was altered since it was written"
    except FileNotFoundError:
        what = "is missing"
    except DamagedError as error:
        what = str(error)
    return f"{file} {what}. {REMEDY}" if what else ""
