"""Cells on disk: a directory each, whole or not at all."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load, save

from bench.store.files import (
    MAX_BYTES,
    MAX_JSON_BYTES,
    TEMPORARY,
    DamagedError,
    file_digest,
    read_file,
    read_sealed,
    seal,
    seal_of,
    sync,
    write_file,
)
from bench.store.layout import CELL_FILE, CELLS, TENSOR_FILE, writing
from bench.store.records import CellRecord
from bench.store.run_record import FORMAT, check_cell_id
from bench.store.schema import cut
from tasks.errors import UserInputError

MAX_WHAT = 500
"""Characters of what is wrong with a cell: a schema has as much to say as a file has lines."""

Tensors = dict[str, NDArray[Any]]


class CorruptCellError(UserInputError):
    """A stored cell is truncated, altered or not a cell.

    Attributes:
        reason: names the file, and what is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.reason} The next `python -m bench run` sets it aside and computes the cell "
            "again."
        )


@dataclass(frozen=True)
class Cell:
    """A record and its tensors, by name (see `bench.store.records` for the first)."""

    record: CellRecord
    tensors: Tensors


class CellStore:
    """Reads and writes the cells of one run directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def cell_directory(self, cell_id: str) -> Path:
        """Where a cell lives; raises ValueError for an id that is not safe as a name."""
        return self.directory / CELLS / check_cell_id(cell_id)

    def stored(self) -> set[str]:
        """The ids of all cells in the directory, of whatever matrix."""
        return {file.parent.name for file in (self.directory / CELLS).glob(f"*/{CELL_FILE}")}

    def has(self, cell_id: str) -> bool:
        """Whether the cell is done.

        Raises CorruptCellError where its record cannot be read: nothing is lost silently.
        """
        there = (self.cell_directory(cell_id) / CELL_FILE).is_file()
        return there and self.record(cell_id).status == "done"

    def write(self, record: CellRecord, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Store a cell whole or not at all; a failed cell that is there is replaced.

        Raises FileExistsError where the cell is already done, and leaves it as it is;
        NotWritableError where the disk is full or refuses it; ValueError where it is so large that
        it could not be read again.
        """
        target = self.cell_directory(record.id)
        if self.has(record.id):
            raise FileExistsError(f"{target} is a finished cell and stays as it is")
        content = save({name: np.asarray(array, order="C") for name, array in tensors.items()})
        body = seal(record.model_dump_json(indent=1), hashlib.sha256(content).hexdigest())
        for name, size, most in (
            (TENSOR_FILE, len(content), MAX_BYTES),
            (CELL_FILE, len(body), MAX_JSON_BYTES),
        ):
            if size > most:
                raise ValueError(f"its {name} has {size} bytes; no more than {most} can be stored")
        with writing(self.directory):
            self._write(target, {TENSOR_FILE: content, CELL_FILE: body})

    def _write(self, target: Path, files: Mapping[str, bytes]) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.directory))
        try:
            new = temporary / "new"
            new.mkdir()
            for name, content in files.items():
                write_file(new / name, content)
            sync(new)
            if target.exists():  # a rename cannot replace a directory that is not empty
                target.rename(temporary / "old")
            new.rename(target)
            sync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def record(self, cell_id: str) -> CellRecord:
        """Read a cell without its tensors. Errors as for `read`."""
        return self._record(cell_id)[0]

    def read(self, cell_id: str) -> Cell:
        """Read a cell. Raises UserInputError for none, CorruptCellError for an altered one."""
        record, digest = self._record(cell_id)
        file = self.cell_directory(cell_id) / TENSOR_FILE
        with _checked_read(file):
            content = read_file(file)
            _check_digest(hashlib.sha256(content).hexdigest(), digest)
            tensors = load(content)
        return Cell(record, tensors)

    def check(self, cell_id: str) -> CellRecord:
        """`record`, with the tensors compared with their digest. Errors as for `read`."""
        record, digest = self._record(cell_id)
        file = self.cell_directory(cell_id) / TENSOR_FILE
        with _checked_read(file):
            _check_digest(file_digest(file), digest)
        return record

    def _record(self, cell_id: str) -> tuple[CellRecord, str]:
        file = self.cell_directory(cell_id) / CELL_FILE
        if not (file.exists() or file.is_symlink()):
            raise UserInputError(f"{self.directory} holds no cell {cell_id!r}")
        if file.parent.is_symlink():
            _corrupt(file.parent, "is a symbolic link: it is not followed")
        with _checked_read(file):
            text, digest = read_sealed(file)
            record = CellRecord.model_validate_json(text)
        if record.id != cell_id:
            _corrupt(file, f"says it is the cell {record.id!r}")
        return record, digest

    def version_of(self, cell_id: str) -> str:
        """The digest that the cell's file bears: another one after the cell was written again."""
        return seal_of(self.cell_directory(cell_id) / CELL_FILE)


@contextmanager
def _checked_read(file: Path) -> Iterator[None]:
    """Raises CorruptCellError for whatever is found to be wrong with `file` in the block."""
    try:
        yield
    except FileNotFoundError:
        _corrupt(file, "is missing")
    except DamagedError as error:
        _corrupt(file, str(error))
    except ValidationError as error:
        _corrupt(file, f"does not fit the schema of format {FORMAT}: {error}")


def _check_digest(found: str, stated: str) -> None:
    if found != stated:
        raise DamagedError(f"is not the file that {CELL_FILE} was made for")


def _corrupt(file: Path, what: str) -> NoReturn:
    raise CorruptCellError(f"{file} {cut(what, MAX_WHAT)}.")
