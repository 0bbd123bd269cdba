"""The store: a run directory (`bench.store.layout`) with its cells and tables. Torch-free."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.store.cells import MAX_WHAT, CellStore
from bench.store.files import (
    MAX_JSON_BYTES,
    DamagedError,
    parse,
    read_file,
    replace_file,
    seal,
    set_aside,
    unseal,
)
from bench.store.layout import (
    CELL_FILE,
    CELLS,
    RUN_FILE,
    WHAT_A_RUN_IS,
    check_links,
    writing,
)
from bench.store.run_record import FORMAT, PlannedRecord, RunRecord
from bench.store.schema import cut
from bench.store.tables import StoredTables
from bench.store.tidy import tidy_table
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from pandas import DataFrame


EVERYWHERE = Path("results")
"""Where runs are looked for that nobody names."""


class CorruptRunError(UserInputError):
    """The run.json of a run is truncated or altered."""


class RunStore(CellStore):
    """Reads and writes one run directory. Get one by `RunStore.create` or `RunStore.open`."""

    def __init__(self, directory: Path, run: dict[str, Any]) -> None:
        super().__init__(directory)
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
        run.json is kept in set-aside/. That nothing else lies there is for `layout.claim` to say.
        """
        directory = Path(directory)
        try:
            if (directory / RUN_FILE).exists():
                cls.open(directory)  # refuses a run of a newer format
        except CorruptRunError as error:
            set_aside(directory, directory / RUN_FILE, str(error), keep=True)
        run = RunRecord(
            suite_version=suite_version,
            config=dict(config),
            cells=None if plan is None else [one.id for one in plan],
            plan=[one[1:] for one in plan or ()],
        )
        with writing(directory):
            (directory / CELLS).mkdir(parents=True, exist_ok=True)
            replace_file(directory / RUN_FILE, seal(run.model_dump_json(indent=1)))
        return cls(directory, run.model_dump())

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
        check_links(directory)
        try:
            run = RunRecord.model_validate(_parsed(file)).model_dump()
        except (DamagedError, ValidationError) as error:
            raise CorruptRunError(
                f"{file} {cut(str(error), MAX_WHAT)}. {WHAT_A_RUN_IS} The same `python -m bench "
                "run` writes it anew; cells stay."
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

    def ids(self) -> list[str]:
        """Return the ids of the run's stored cells, failed ones too.

        In the order of the matrix; cells of an earlier configuration are not among them. Sorted
        where the run does not say which cells are its own.
        """
        stored = self.stored()
        planned = self.planned
        return sorted(stored) if planned is None else [name for name in planned if name in stored]

    def table(self) -> "DataFrame":
        """Return the tidy table: a row a cell x split x beta kind, one row a failed cell."""
        return tidy_table(self.record(cell_id) for cell_id in self.ids())

    def write_frame(self, name: str, frame: "DataFrame", made_of: str = "") -> None:
        """Write `frame` as <name>.parquet and <name>.csv (`StoredTables.write`)."""
        with writing(self.directory):
            self.tables.write(name, frame, made_of)


def _parsed(file: Path) -> dict[str, Any]:
    """What a run.json says.

    Raises:
        UserInputError: for a run that another format of the suite wrote, sealed or not.
        DamagedError: as `parse` and `read_sealed`.
    """
    content = read_file(file, MAX_JSON_BYTES)
    data = parse(content)
    if (stated := data.get("format", FORMAT)) != FORMAT:
        raise UserInputError(
            f"{file} has format {str(stated)[:20]}; this version of attribution-bench reads format "
            f"{FORMAT}. Use the version that wrote it."
        )
    unseal(content)
    del data["sha256"]
    return data


def find_cell(text: str, results: Path | None = None) -> tuple[RunStore, str]:
    """The run and the id of a cell.

    Args:
        text: a cell's directory, its cell.json, its id or a part of it.
        results: the run; without it, all runs under `results/` here.

    Raises:
        UserInputError: for no such cell, or several; names them.
    """
    path = Path(text)
    if path.name == CELL_FILE:
        path = path.parent
    if path.is_dir() and path.resolve().parent.name == CELLS:
        path = path.resolve()
        return RunStore.open(path.parents[1]), path.name
    everywhere = (folder.parent for folder in EVERYWHERE.glob(f"**/{CELLS}"))
    runs = [results] if results else sorted(run for run in everywhere if (run / RUN_FILE).exists())
    known = {store: store.stored() for store in map(RunStore.open, runs)}
    found = [
        (store, name)
        for store, names in known.items()
        for name in ([text] if text in names else sorted(names))
        if text in name
    ]
    if not found:
        where = " or ".join(str(run) for run in runs) or f"{EVERYWHERE}/"
        names = {name for names in known.values() for name in names}
        raise UserInputError(f'There is no cell "{text}" in {where}.{nearest(text, names)}')
    if len(found) > 1:
        some = ", ".join(str(store.cell_directory(name)) for store, name in found[:5])
        raise UserInputError(f'"{text}" is {len(found)} cells: {some}. Give more of the id.')
    return found[0]
