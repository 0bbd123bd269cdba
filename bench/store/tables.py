"""The tables of a run directory, what they were made of, and the digests that guard them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.store.files import (
    DamagedError,
    dump,
    file_digest,
    parse,
    read_sealed,
    replace_file,
    seal,
)
from bench.store.records import StrictRecord
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from pandas import DataFrame

TABLES_FILE = "tables.json"
FORMULAS = ("=", "+", "-", "@", "\t")
REMEDY = "The same `python -m bench run` makes it anew from the cells."


class CorruptTableError(UserInputError):
    """A table of a run, or the file that describes them, was altered; the message names it."""


class Described(StrictRecord):
    """What `tables.json` says: what the tables were made of, and the digests of their files."""

    made_of: str
    files: dict[str, str]


class StoredTables:
    """Tables as <name>.parquet and <name>.csv, and `tables.json` beside them.

    A table counts once `tables.json` says so: what a killed process left half done does not.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / TABLES_FILE

    def write(self, name: str, frame: "DataFrame") -> None:
        """Write a table in both formats, each whole. Raises OSError as the disk does."""
        contents = {
            f"{name}.parquet": frame.to_parquet(index=False),
            f"{name}.csv": spreadsheet_safe(frame).to_csv(index=False).encode(),
        }
        known: Mapping[str, str] = self._read()["files"]
        others = {file: digest for file, digest in known.items() if file not in contents}
        self._describe(others, "")
        for file, content in contents.items():
            replace_file(self.directory / file, content)
        new = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
        self._describe({**others, **new}, "")

    def read(self, name: str) -> "DataFrame | None":
        """A table, None where there is none. Raises CorruptTableError where it was altered."""
        file = self.directory / f"{name}.parquet"
        digest = self._read()["files"].get(file.name)
        if digest is None:
            return None
        _check(file, digest)
        from pandas import read_parquet
        from pyarrow import ArrowException

        try:
            return read_parquet(file)
        except (ArrowException, OSError, ValueError) as error:
            problem = f"{file} is no Parquet file of the suite ({error}). {REMEDY}"
            raise CorruptTableError(problem) from None

    def made_of(self) -> str:
        """What the tables were made of, "" where there are none or some are missing.

        Raises CorruptTableError where one was altered.
        """
        for reason in self.damaged().values():
            raise CorruptTableError(reason)
        return str(self._read()["made_of"])

    def damaged(self) -> dict[Path, str]:
        """The files that were altered or are missing, and a sentence on each."""
        try:
            stated: Mapping[str, str] = self._read()["files"]
        except CorruptTableError as error:
            return {self.file: str(error)}
        found = {}
        for name, digest in stated.items():
            file = self.directory / Path(name).name
            try:
                _check(file, digest)
            except CorruptTableError as error:
                found[file] = str(error)
        return found

    def are_made_of(self, what: str) -> None:
        """All tables that are there were made of this. Raises OSError as the disk does."""
        self._describe(self._read()["files"], what)

    def forget(self) -> None:
        """Take all tables for missing, so that they are made anew."""
        self.file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        if not self.file.exists():
            return {"made_of": "", "files": {}}
        try:
            return Described.model_validate(parse(read_sealed(self.file)[0])).model_dump()
        except (DamagedError, ValidationError) as error:
            raise CorruptTableError(f"{self.file} {error}. {REMEDY}") from None

    def _describe(self, files: Mapping[str, str], made_of: str) -> None:
        replace_file(self.file, seal(dump({"made_of": made_of, "files": files})))


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


def _check(file: Path, digest: str) -> None:
    if not file.exists():
        raise CorruptTableError(f"{file} is missing. {REMEDY}")
    try:
        found = file_digest(file)
    except DamagedError as error:
        raise CorruptTableError(f"{file} {error}. {REMEDY}") from None
    if found != digest:
        raise CorruptTableError(f"{file} was altered since it was written. {REMEDY}")
