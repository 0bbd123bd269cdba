"""What a `run.json` says: a run's matrix and its cells, and how cells are called. Torch-free."""

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator

from bench.store.schema import PlainDict, StrictRecord

FORMAT: Literal[2] = 2
"""Of a run on disk. 2: files are sealed (see `bench.store.files`)."""
MAX_ID_LENGTH = 200
_SAFE_ID = re.compile(r"[A-Za-z0-9_=,-][A-Za-z0-9._=,-]*")


def check_cell_id(cell_id: str) -> str:
    """Return `cell_id` if it can name a directory inside a run directory on any file system.

    Raises ValueError for anything but letters, digits and `._=,-`, for a leading dot (so also
    for `.` and `..`) and for more than 200 characters.
    """
    if len(cell_id) > MAX_ID_LENGTH or not _SAFE_ID.fullmatch(cell_id):
        raise ValueError(
            f"{cell_id!r} cannot name a cell: a cell id has 1 to {MAX_ID_LENGTH} characters, only "
            "letters, digits and ._=,- and does not start with a dot"
        )
    return cell_id


def content_of(cell_id: str) -> str:
    """The digest at the end of an id: cells that have it in common have the same numbers."""
    return cell_id.rpartition("-")[2]


class PlannedRecord(NamedTuple):
    """What a matrix says of one of its cells, stored or not: names those that are missing.

    Attributes:
        method: the label, with the settings that are not the default.
        varied: values in the matrix's grids over prompts and objective: `objective.lambda_f` ...
    """

    id: str
    model: str
    task: str
    method: str
    trained: bool
    control: bool
    draw: int
    seed: int
    varied: dict[str, float]


class RunRecord(StrictRecord):
    """What a `run.json` says: the resolved matrix, and its cells.

    `cells` is None where the run does not say which cells are its own; `plan` has what the matrix
    says of each of them (`PlannedRecord` without the id), or nothing.
    """

    format: Literal[2] = FORMAT
    suite_version: str = ""
    config: PlainDict
    cells: list[Annotated[str, AfterValidator(check_cell_id)]] | None = None
    plan: list[tuple[str, str, str, bool, bool, int, int, dict[str, float]]] = []
