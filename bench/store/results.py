"""The store: one directory a run, one directory a cell, whole or not at all. Torch-free.

run.json                          the resolved matrix and the suite's version
cells/<cell id>/cell.json         a CellRecord and two digests
cells/<cell id>/tensors.safetensors
results.parquet, results.csv      the tidy table; agreement.* beside it
tables.json                       what the tables were made of, and their digests
logs/                             what workers said
set-aside/                        what was damaged or foreign, with the reasons
report/                           written by `reports`
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bench.store.files import (
    MAX_JSON_BYTES,
    SET_ASIDE,
    TEMPORARY,
    DamagedError,
    dump,
    file_digest,
    parse,
    read_file,
    read_sealed,
    replace_file,
    seal,
    seal_of,
    set_aside,
    set_aside_reasons,
    sync,
    write_file,
)
from bench.store.records import (
    FORMAT,
    CellRecord,
    PlannedRecord,
    RunRecord,
    check_cell_id,
    plain,
)
from bench.store.tables import TABLES_FILE, StoredTables
from bench.store.tidy import tidy_table
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from pandas import DataFrame

Tensors = dict[str, NDArray[Any]]
RUN_FILE = "run.json"
CELLS = "cells"
CELL_FILE = "cell.json"
TENSOR_FILE = "tensors.safetensors"
LOCK_FILE = ".lock"
OWNER_FILE = ".owner.json"
LOGS = "logs"
WRITTEN_AT_THE_END = {
    "report",
    *(f"{table}.{kind}" for table in ("results", "agreement") for kind in ("parquet", "csv")),
}
WHAT_A_RUN_IS = (
    f"A results directory is one that `python -m bench run` wrote: it contains {RUN_FILE} and a "
    "folder cells/."
)


class CorruptCellError(UserInputError):
    """A stored cell is truncated, altered or not a cell; the message names the file."""


class CorruptRunError(UserInputError):
    """The run.json of a run is truncated or altered."""


class NotWritableError(UserInputError):
    """The disk is full, or results cannot be written for another reason that is not the cell's."""


@dataclass(frozen=True)
class Cell:
    """A record and its tensors, by name (see `bench.store.records` for the first)."""

    record: CellRecord
    tensors: Tensors


class RunStore:
    """Reads and writes one run directory. Get one by `RunStore.create` or `RunStore.open`."""

    def __init__(self, directory: Path, run: dict[str, Any]) -> None:
        self.directory = directory
        self.run = run
        self.tables = StoredTables(directory)

    @classmethod
    def create(
        cls,
        directory: Path | str,
        config: Mapping[str, object],
        *,
        suite_version: str = "",
        plan: Sequence[PlannedRecord] | None = None,
    ) -> "RunStore":
        """Make `directory` a run with this configuration, or go on with the run that is there.

        Cells that are there stay (they carry their own settings). The configuration becomes the
        new one, and `plan` the cells that belong to it (all that are there if None). A damaged
        run.json is kept in set-aside/. Raises UserInputError where `directory` is a file or holds
        anything else.
        """
        directory = Path(directory)
        try:
            if (directory / RUN_FILE).exists():
                cls.open(directory)  # refuses a run of a newer format
        except CorruptRunError as error:
            set_aside(directory, directory / RUN_FILE, str(error), keep=True)
        check_may_become_a_run(directory)
        run = {
            "format": FORMAT,
            "suite_version": suite_version,
            "config": plain(config),
            "cells": None if plan is None else [one.id for one in plan],
            "plan": [] if plan is None else [plain(one[1:]) for one in plan],
        }
        with writing(directory):
            (directory / CELLS).mkdir(parents=True, exist_ok=True)
            replace_file(directory / RUN_FILE, seal(dump(run)))
        return cls(directory, run)

    @classmethod
    def open(cls, directory: Path | str) -> "RunStore":
        """Open a run.

        Raises UserInputError where `directory` is none, or from another format of the suite;
        CorruptRunError where its run.json was truncated or altered.
        """
        directory = Path(directory)
        file = directory / RUN_FILE
        if not file.exists():
            what = "does not exist" if not directory.exists() else "is not a results directory"
            raise UserInputError(f"{directory} {what}. {WHAT_A_RUN_IS}")
        check_cells_folder(directory)
        try:
            _check_format(file)
            run = RunRecord.model_validate(parse(read_sealed(file)[0])).model_dump()
        except (DamagedError, ValidationError, RecursionError) as error:
            what = "is no run of the suite" if isinstance(error, RecursionError) else str(error)
            raise CorruptRunError(
                f"{file} {what}. {WHAT_A_RUN_IS} The same `python -m bench run` writes it anew; "
                "cells stay."
            ) from None
        return cls(directory, run)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved matrix of the run."""
        config: dict[str, Any] = self.run["config"]
        return config

    @property
    def planned(self) -> list[str] | None:
        """Ids of the cells of the run's matrix, stored or not; None where it does not say."""
        return self.run.get("cells")

    @property
    def plan(self) -> dict[str, PlannedRecord]:
        """What the run's matrix says of its cells, by id; empty where it does not say."""
        rows = zip(self.planned or [], self.run.get("plan") or [], strict=False)
        return {name: PlannedRecord(name, *row) for name, row in rows}

    def set_aside(self) -> dict[str, str]:
        """Why cells (and files) of the run were set aside, by the name that they had."""
        return set_aside_reasons(self.directory)

    def cell_directory(self, cell_id: str) -> Path:
        """Where a cell lives; raises ValueError for an id that is not safe as a name."""
        return self.directory / CELLS / check_cell_id(cell_id)

    def ids(self) -> list[str]:
        """Return the ids of the run's stored cells, failed ones too.

        In the order of the matrix; cells of an earlier configuration are not among them. Sorted
        where the run does not say which cells are its own.
        """
        stored = self.stored()
        planned = self.planned
        return sorted(stored) if planned is None else [name for name in planned if name in stored]

    def stored(self) -> set[str]:
        """The ids of all cells in the directory, of whatever matrix."""
        return {file.parent.name for file in (self.directory / CELLS).glob(f"*/{CELL_FILE}")}

    def has(self, cell_id: str, *, failed: bool = False) -> bool:
        """Whether the cell is done (or, with `failed`, is stored at all).

        Raises CorruptCellError where its record cannot be read: nothing is lost silently.
        """
        if not (self.cell_directory(cell_id) / CELL_FILE).is_file():
            return False
        return failed or self.record(cell_id).status == "done"

    def write(self, record: CellRecord, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Store a cell whole or not at all; a failed cell that is there is replaced.

        Raises FileExistsError where the cell is already done, and leaves it as it is;
        NotWritableError where the disk is full or refuses it.
        """
        target = self.cell_directory(record.id)
        if self.has(record.id):
            raise FileExistsError(f"{target} is a finished cell and stays as it is")
        content = save({name: np.asarray(array, order="C") for name, array in tensors.items()})
        body = seal(record.model_dump_json(indent=1), hashlib.sha256(content).hexdigest())
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
        try:
            content = read_file(file)
        except FileNotFoundError:
            _corrupt(file, "is missing")
        except DamagedError as error:
            _corrupt(file, str(error))
        if hashlib.sha256(content).hexdigest() != digest:
            _corrupt(file, f"({len(content)} bytes) is not the file that {CELL_FILE} was made for")
        try:
            return Cell(record, load(content))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            _corrupt(file, f"is no safetensors file that NumPy can hold: {error}")

    def check(self, cell_id: str) -> CellRecord:
        """`record`, with the tensors compared with their digest. Errors as for `read`."""
        record, digest = self._record(cell_id)
        file = self.cell_directory(cell_id) / TENSOR_FILE
        try:
            found = file_digest(file)
        except FileNotFoundError:
            _corrupt(file, "is missing")
        except DamagedError as error:
            _corrupt(file, str(error))
        if found != digest:
            _corrupt(file, f"is not the file that {CELL_FILE} was made for")
        return record

    def _record(self, cell_id: str) -> tuple[CellRecord, str]:
        file = self.cell_directory(cell_id) / CELL_FILE
        if not (file.exists() or file.is_symlink()):
            raise UserInputError(f"{self.directory} holds no cell {cell_id!r}")
        if file.parent.is_symlink():
            _corrupt(file.parent, "is a symbolic link: it is not followed")
        try:
            text, digest = read_sealed(file)
            record = CellRecord.model_validate_json(text)
        except DamagedError as error:
            _corrupt(file, str(error))
        except ValidationError as error:
            _corrupt(file, f"does not fit the schema of format {FORMAT}: {error}")
        if record.id != cell_id:
            _corrupt(file, f"says it is the cell {record.id!r}")
        return record, digest

    def table(self) -> "DataFrame":
        """Return the tidy table: a row a cell x split x beta kind, one row a failed cell."""
        return tidy_table(self.record(cell_id) for cell_id in self.ids())

    def write_tables(self, see: Callable[[CellRecord], object] | None = None) -> "DataFrame":
        """Write the tidy table as results.parquet and results.csv, and return it.

        Of the records, each is read once, given to `see`, and let go.
        """

        def records() -> Iterator[CellRecord]:
            for cell_id in self.ids():
                record = self.record(cell_id)
                if see is not None:
                    see(record)
                yield record

        table = tidy_table(records())
        self.write_frame("results", table)
        return table

    def write_frame(self, name: str, frame: "DataFrame") -> None:
        """Write `frame` as <name>.parquet and <name>.csv into the run directory, each whole."""
        with writing(self.directory):
            self.tables.write(name, frame)

    def frame(self, name: str) -> "DataFrame | None":
        """Read a table that `write_frame` wrote, None where there is none.

        Raises CorruptTableError where it was altered since.
        """
        return self.tables.read(name)

    def version_of(self, cell_id: str) -> str:
        """The digest that the cell's file bears: another one after the cell was written again."""
        return seal_of(self.cell_directory(cell_id) / CELL_FILE)


def check_may_become_a_run(directory: Path) -> None:
    """Raises UserInputError for a directory that holds anything else than a run.

    It may be new, empty, a run, hold nothing but what a killed run left behind, or be a run that
    lost its run.json: tables and a report could be anybody's, so only beside cells are they ours.
    """
    check_cells_folder(directory)
    if not directory.exists() or (directory / RUN_FILE).exists():
        return
    ours = {CELLS, LOGS, SET_ASIDE, LOCK_FILE, OWNER_FILE, TABLES_FILE}
    if (directory / CELLS).is_dir():
        ours |= WRITTEN_AT_THE_END
    if not directory.is_dir() or not all(
        path.name in ours or path.name.startswith(TEMPORARY) for path in directory.iterdir()
    ):
        raise UserInputError(
            f"{directory} exists and is not a results directory, so nothing is written there. "
            f"{WHAT_A_RUN_IS} Give an empty or a new directory."
        )


def check_cells_folder(directory: Path) -> None:
    """Raises UserInputError where the cells would be somewhere else than in the run."""
    if (directory / CELLS).is_symlink():
        raise UserInputError(
            f"{directory / CELLS} is a symbolic link: cells are neither read nor written where it "
            "leads. A run is moved as a whole; its own directory may be a link."
        )


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """What goes wrong with the disk in the block is said as NotWritableError."""
    try:
        yield
    except OSError as error:
        raise NotWritableError(
            f"Results cannot be written to {directory}: {error.strerror or error}. Finished cells "
            "are safe; make room and give the same command again."
        ) from error


def _check_format(file: Path) -> None:
    """Raises UserInputError for a run that another format of the suite wrote."""
    try:
        run = parse(read_file(file, MAX_JSON_BYTES))
    except DamagedError:
        return  # the seal says it better
    if run.get("format", FORMAT) != FORMAT:
        raise UserInputError(
            f"{file} has format {run.get('format')!r}; this version of attribution-bench reads "
            f"format {FORMAT}. Use the version that wrote it: {run.get('suite_version')!r}."
        )


def _corrupt(file: Path, what: str) -> NoReturn:
    raise CorruptCellError(
        f"{file} {what}. The next `python -m bench run` sets it aside and computes the cell again."
    )
