"""What each method did on each prompt: what intervals and paired tests are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.records import CellRecord
from bench.results import CorruptCellError
from reports.labels import group_cells
from reports.load import Results, splits_of

Values = NDArray[np.float64]
MAIN_SPLIT = "test"


@dataclass(frozen=True, eq=False)
class Outcome:
    """A method on the prompts of one split, at the strength that it is judged at.

    Attributes:
        label: as in the leaderboard.
        records: its finished cells (seeds or draws) whose numbers are in `e_0`.
        e_0, f: (cell, prompt), the terms of Eq. 6 (margin 0) and 7 that a prompt gives; their mean
            over prompts is the cell's E_0 and F. At beta*, of trained methods at beta = 1.
    """

    label: str
    records: tuple[CellRecord, ...]
    e_0: Values
    f: Values

    @property
    def control(self) -> bool:
        """Whether it is a control."""
        return self.records[0].control

    @property
    def per_prompt(self) -> Values:
        """E_0 of every prompt, averaged over seeds or draws."""
        return np.asarray(self.e_0.mean(axis=0))

    @property
    def per_cell(self) -> Values:
        """E_0 of every seed or draw, averaged over prompts."""
        return np.asarray(self.e_0.mean(axis=1))

    @property
    def mean(self) -> float:
        """E_0."""
        return float(self.e_0.mean())


def main_split(records: Sequence[CellRecord]) -> str:
    """Return the split that methods are judged on: test where there is one."""
    splits = splits_of(records)
    return MAIN_SPLIT if MAIN_SPLIT in splits or not splits else splits[0]


def outcomes(
    results: Results, model: str, task: str, split: str | None = None
) -> dict[str, Outcome]:
    """Return by label what is stored per prompt of a split (the main one if None).

    A method whose cells store nothing per prompt is not among them, nor is a cell whose tensors
    cannot be read.
    """
    chosen = split or main_split(results.of(model, task))
    key = ("outcomes", model, task, chosen)
    return results.once(key, lambda: _outcomes(results, model, task, chosen))


def _outcomes(results: Results, model: str, task: str, split: str) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for label, group in group_cells(results.of(model, task)).items():
        known = [
            (record, values)
            for record in group
            if record.status == "done"
            and (values := _per_prompt(results, record, split)) is not None
        ]
        sizes = {values.shape[1] for _, values in known}
        if len(sizes) == 1:
            stacked = np.stack([values for _, values in known])
            cells = tuple(record for record, _ in known)
            found[label] = Outcome(label, cells, stacked[:, 0], stacked[:, 1])
    return found


def _per_prompt(results: Results, record: CellRecord, split: str) -> Values | None:
    """(2, prompt): E_0 and F of every prompt of one cell."""
    try:
        tensors = results.small_tensors(record.id)
    except CorruptCellError:
        return None
    beta, ld, kl = (tensors.get(f"split.{split}.{name}") for name in ("beta", "ld", "kl"))
    if beta is None or ld is None or kl is None:
        return None
    strength = judged_at(record)
    plus, minus = (int(np.abs(beta - sign * strength).argmin()) for sign in (1, -1))
    ld, kl = ld.astype(np.float64), kl.astype(np.float64)
    e_0 = np.minimum(ld[:, plus], 0) + np.minimum(-ld[:, minus], 0)
    return np.stack([e_0, -(kl[:, plus] + kl[:, minus])])


def judged_at(record: CellRecord) -> float:
    """Return the strength at which a cell is judged: beta*, of trained methods 1."""
    star = record.beta.star if record.beta else None
    return 1.0 if record.trained or star is None else star
