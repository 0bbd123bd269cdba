"""The store: one directory a run, one directory a cell, whole or not at all. Torch-free.

run.json                          the resolved matrix and the suite's version
cells/<cell id>/cell.json         a CellRecord and two digests
cells/<cell id>/tensors.safetensors
results.parquet, results.csv      the tidy table; agreement.* beside it
report/                           written by `reports`
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load, save

from bench.records import FORMAT, CellRecord, check_cell_id, plain, strict_json
from bench.table import tidy_table
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from pandas import DataFrame

Tensors = dict[str, NDArray[Any]]
RUN_FILE = "run.json"
CELL_FILE = "cell.json"
TENSOR_FILE = "tensors.safetensors"
WHAT_A_RUN_IS = (
    f"A results directory is one that `python -m bench run` wrote: it contains {RUN_FILE} and a "
    "folder cells/."
)


class CorruptCellError(UserInputError):
    """A stored cell is truncated, altered or not a cell; the message names the file."""


@dataclass(frozen=True)
class Cell:
    """A record and its tensors, by name (see `bench.records` for the first)."""

    record: CellRecord
    tensors: Tensors


class RunStore:
    """Reads and writes one run directory. Get one by `RunStore.create` or `RunStore.open`."""

    def __init__(self, directory: Path, run: dict[str, Any]) -> None:
        self.directory = directory
        self.run = run

    @classmethod
    def create(
        cls,
        directory: Path | str,
        config: Mapping[str, object],
        *,
        suite_version: str = "",
        cells: Sequence[str] | None = None,
    ) -> "RunStore":
        """Make `directory` a run with this configuration, or go on with the run that is there.

        Cells that are there stay (they carry their own settings). The configuration becomes the
        new one, and `cells` the ids that belong to it (all that are there if None). Raises
        UserInputError where `directory` is a file or holds anything else.
        """
        directory = Path(directory)
        if (directory / RUN_FILE).exists():
            cls.open(directory)  # refuses a run of a newer format
        elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserInputError(
                f"{directory} exists and is not a results directory, so nothing is written there. "
                f"{WHAT_A_RUN_IS} Give an empty or a new directory."
            )
        try:
            (directory / "cells").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserInputError(f"Results cannot be written to {directory}: {error}") from None
        run = {
            "format": FORMAT,
            "suite_version": suite_version,
            "config": plain(config),
            "cells": None if cells is None else list(cells),
        }
        _replace_file(directory / RUN_FILE, _dump(run))
        return cls(directory, run)

    @classmethod
    def open(cls, directory: Path | str) -> "RunStore":
        """Open a run; raises UserInputError where `directory` is none, or from a newer suite."""
        directory = Path(directory)
        file = directory / RUN_FILE
        if not file.is_file() or not (directory / "cells").is_dir():
            what = "does not exist" if not directory.exists() else "is not a results directory"
            raise UserInputError(f"{directory} {what}. {WHAT_A_RUN_IS}")
        try:
            run = _parse(file.read_bytes())
        except ValueError as error:
            raise UserInputError(f"{file} is not valid JSON ({error}). {WHAT_A_RUN_IS}") from None
        if run.get("format") != FORMAT:
            raise UserInputError(
                f"{file} has format {run.get('format')!r}; this version of attribution-bench reads "
                f"format {FORMAT}. Use the version that wrote it: {run.get('suite_version')!r}."
            )
        return cls(directory, plain(run))

    @property
    def config(self) -> dict[str, Any]:
        """The resolved matrix of the run."""
        config: dict[str, Any] = self.run["config"]
        return config

    def cell_directory(self, cell_id: str) -> Path:
        """Where a cell lives; raises ValueError for an id that is not safe as a name."""
        return self.directory / "cells" / check_cell_id(cell_id)

    def ids(self) -> list[str]:
        """Return the ids of the run's stored cells, failed ones too.

        In the order of the matrix; cells of an earlier configuration are not among them. Sorted
        where the run does not say which cells are its own.
        """
        stored = {file.parent.name for file in (self.directory / "cells").glob(f"*/{CELL_FILE}")}
        planned: list[str] | None = self.run.get("cells")
        return sorted(stored) if planned is None else [name for name in planned if name in stored]

    def has(self, cell_id: str, *, failed: bool = False) -> bool:
        """Whether the cell is done (or, with `failed`, is stored at all).

        Raises CorruptCellError where its record cannot be read: nothing is lost silently.
        """
        if not (self.cell_directory(cell_id) / CELL_FILE).is_file():
            return False
        return failed or self.record(cell_id).status == "done"

    def write(self, record: CellRecord, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Store a cell whole or not at all; a failed cell that is there is replaced.

        Raises FileExistsError where the cell is already done, and leaves it as it is.
        """
        target = self.cell_directory(record.id)
        if self.has(record.id):
            raise FileExistsError(f"{target} is a finished cell and stays as it is")
        content = save({name: np.asarray(array, order="C") for name, array in tensors.items()})
        body = strict_json(record.model_dump())
        body["tensors_sha256"] = hashlib.sha256(content).hexdigest()
        body["record_sha256"] = _digest(body)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.directory))
        try:
            new = temporary / "new"
            new.mkdir()
            _write_file(new / TENSOR_FILE, content)
            _write_file(new / CELL_FILE, _dump(body))
            _sync(new)
            if target.exists():  # a rename cannot replace a directory that is not empty
                target.rename(temporary / "old")
            new.rename(target)
            _sync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def record(self, cell_id: str) -> CellRecord:
        """Read a cell without its tensors. Errors as for `read`."""
        return self._record(cell_id)[0]

    def read(self, cell_id: str) -> Cell:
        """Read a cell. Raises UserInputError for none, CorruptCellError for an altered one."""
        record, digest = self._record(cell_id)
        file = self.cell_directory(cell_id) / TENSOR_FILE
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            _corrupt(file, "is missing")
        if hashlib.sha256(content).hexdigest() != digest:
            _corrupt(file, f"({len(content)} bytes) is not the file that {CELL_FILE} was made for")
        return Cell(record, load(content))

    def _record(self, cell_id: str) -> tuple[CellRecord, str]:
        file = self.cell_directory(cell_id) / CELL_FILE
        if not file.is_file():
            raise UserInputError(f"{self.directory} holds no cell {cell_id!r}")
        try:
            body = _parse(file.read_bytes())
        except ValueError as error:
            _corrupt(file, f"is not valid JSON ({error})")
        written = body.pop("record_sha256", None)
        if written != _digest(body):
            _corrupt(file, "is not what the suite wrote: it has been altered since")
        digest = body.pop("tensors_sha256", "")
        try:
            record = CellRecord.model_validate(body)
        except ValidationError as error:
            _corrupt(file, f"does not fit the schema of format {FORMAT}: {error}")
        if record.id != cell_id:
            _corrupt(file, f"says it is the cell {record.id!r}")
        return record, digest

    def table(self) -> "DataFrame":
        """Return the tidy table: a row a cell x split x beta kind, one row a failed cell."""
        return tidy_table([self.record(cell_id) for cell_id in self.ids()])

    def write_tables(self) -> "DataFrame":
        """Write the tidy table as results.parquet and results.csv, and return it."""
        table = self.table()
        self.write_frame("results", table)
        return table

    def write_frame(self, name: str, frame: "DataFrame") -> None:
        """Write `frame` as <name>.parquet and <name>.csv into the run directory, each whole."""
        _replace_file(self.directory / f"{name}.parquet", frame.to_parquet(index=False))
        _replace_file(self.directory / f"{name}.csv", frame.to_csv(index=False).encode())


def _corrupt(file: Path, what: str) -> NoReturn:
    raise CorruptCellError(
        f"{file} {what}. Delete the directory {file.parent} and run again to have it recomputed."
    )


def _dump(data: object) -> bytes:
    return (json.dumps(strict_json(data), allow_nan=False, indent=1) + "\n").encode()


def _parse(content: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    data = json.loads(content, parse_constant=refuse)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    return data


def _digest(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _write_file(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _replace_file(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".writing-{os.getpid()}-{file.name}")
    _write_file(temporary, content)
    temporary.replace(file)
    _sync(file.parent)


def _sync(directory: Path) -> None:
    """Make names in `directory` durable, where the system can (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
