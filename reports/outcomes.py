"""What each method did on each prompt: what intervals and paired tests are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.store.records import MAIN_K, CellRecord
from reports.labels import group_cells
from reports.load import Results, once, splits_of

Values = NDArray[np.float64]
Prompt = tuple[tuple[int, ...], int, int]
"""What tells prompts apart: their tokens without padding, the answer and the foil."""
MAIN_SPLIT = "test"


@dataclass(frozen=True, eq=False)
class Outcome:
    """A method on the prompts of one split, at the strength that it is judged at.

    Attributes:
        label: as in the leaderboard.
        records: its finished cells whose numbers are here: seeds, draws, draws of prompts.
        prompts: every prompt that one of them saw, once.
        seen: (cell, prompt), how often the cell had the prompt: other draws of prompts have others.
        e_0, f: (cell, prompt), the terms of Eq. 6 (margin 0) and 7 that a prompt gives; 0 where the
            cell had it not. Their mean over what a cell saw is its E_0 and F.
    """

    label: str
    records: tuple[CellRecord, ...]
    prompts: tuple[Prompt, ...]
    seen: Values
    e_0: Values
    f: Values

    @property
    def control(self) -> bool:
        """Whether it is a control."""
        return self.records[0].control

    @cached_property
    def weights(self) -> Values:
        """(prompt,): the share of all that the cells saw."""
        return np.asarray(self.seen.sum(axis=0) / self.seen.sum())

    @cached_property
    def per_prompt(self) -> Values:
        """E_0 of every prompt, averaged over the cells that saw it."""
        return np.asarray((self.seen * self.e_0).sum(axis=0) / self.seen.sum(axis=0))

    @property
    def per_cell(self) -> Values:
        """E_0 of every cell, averaged over its prompts."""
        return np.asarray((self.seen * self.e_0).sum(axis=1) / self.seen.sum(axis=1))

    @cached_property
    def per_seed(self) -> Values:
        """E_0 of every seed (of a control: draw), averaged over its prompts."""
        units: dict[tuple[int, int], list[int]] = {}
        for place, record in enumerate(self.records):
            units.setdefault((record.seed, record.draw), []).append(place)
        sums = (self.seen * self.e_0).sum(axis=1)
        counts = self.seen.sum(axis=1)
        return np.array([sums[cells].sum() / counts[cells].sum() for cells in units.values()])

    @cached_property
    def mean(self) -> float:
        """E_0."""
        return float((self.seen * self.e_0).sum() / self.seen.sum())

    @cached_property
    def paid(self) -> float:
        """The price paid on these prompts: -F, in nats."""
        return -float((self.seen * self.f).sum() / self.seen.sum())

    def on(self, prompts: Sequence[Prompt]) -> "Outcome":
        """Return the outcome on some of the prompts alone, in their order."""
        if tuple(prompts) == self.prompts:
            return self
        place = {prompt: column for column, prompt in enumerate(self.prompts)}
        columns = np.array([place[prompt] for prompt in prompts], dtype=np.intp)
        cells = np.flatnonzero(self.seen[:, columns].any(axis=1))
        part = np.ix_(cells, columns)
        records = tuple(self.records[cell] for cell in cells)
        numbers = (self.seen[part], self.e_0[part], self.f[part])
        return Outcome(self.label, records, tuple(prompts), *numbers)


def paired(a: Outcome, b: Outcome) -> tuple[Outcome, Outcome]:
    """Return both outcomes on the prompts that they share, in the order of the first."""
    known = set(b.prompts)
    shared = [prompt for prompt in a.prompts if prompt in known]
    return a.on(shared), b.on(shared)


def main_split(records: Sequence[CellRecord]) -> str:
    """Return the split that methods are judged on: test where there is one."""
    splits = splits_of(records)
    return MAIN_SPLIT if MAIN_SPLIT in splits or not splits else splits[0]


@once
def outcomes(
    results: Results, model: str, task: str, split: str | None = None
) -> dict[str, Outcome]:
    """Return by label what is stored per prompt of a split (the main one if None).

    At the strength that methods are judged at (`judged_at`). A method whose cells store nothing per
    prompt, or do not say which prompts they had, is not among them.
    """
    if split is None:
        return outcomes(results, model, task, main_split(results.of(model, task)))
    return _outcomes(results, model, task, split, per_prompt)


@once
def outcomes_of_few_points(results: Results, model: str, task: str) -> dict[str, Outcome]:
    """Return by label what the `MAIN_K` strongest points do on the main split, at one price.

    Of cells that were not measured at that number, what the largest number below it does.
    """
    split = main_split(results.of(model, task))
    return _outcomes(results, model, task, split, _per_prompt_of_few_points)


def _outcomes(
    results: Results,
    model: str,
    task: str,
    split: str,
    values_of: Callable[[Results, CellRecord, str], Values | None],
) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for label, group in group_cells(results.of(model, task)).items():
        stored = [(one, values_of(results, one, split)) for one in group if one.status == "done"]
        known = [(record, values) for record, values in stored if values is not None]
        if known:
            records, values = zip(*known, strict=True)
            found[label] = outcome_of(label, records, values, split)
    return found


def outcome_of(
    label: str, records: Sequence[CellRecord], values: Sequence[Values], split: str
) -> Outcome:
    """Return the outcome of cells; `values` (2, prompt) of each are the terms of E_0 and F."""
    prompts, seen, sums = gathered([prompts_of(one, split) for one in records], values)
    e_0, f = sums / np.maximum(seen, 1)
    return Outcome(label, tuple(records), prompts, seen, e_0, f)


def gathered(
    prompts: Sequence[Sequence[Prompt]], values: Sequence[Values]
) -> tuple[tuple[Prompt, ...], Values, Values]:
    """Put the prompts of all cells side by side, each prompt once.

    `values` are (quantity, prompt, ...) of every cell. Returns the prompts, how often each cell
    had them (cell, prompt), and the sums of its values (quantity, cell, prompt, ...).
    """
    place: dict[Prompt, int] = {}
    columns = [[place.setdefault(one, len(place)) for one in of_cell] for of_cell in prompts]
    seen = np.zeros((len(prompts), len(place)))
    sums = np.zeros((len(values[0]), *seen.shape, *values[0].shape[2:]))
    for row, (where, of_cell) in enumerate(zip(columns, values, strict=True)):
        np.add.at(seen[row], where, 1)
        for total, one in zip(sums[:, row], of_cell, strict=True):
            np.add.at(total, where, one)
    return tuple(place), seen, sums


def prompts_of(record: CellRecord, split: str) -> list[Prompt]:
    """Return what tells the prompts of a cell's split apart, in order."""
    return [
        (tuple(token for token in one.token_ids if token >= 0), one.answer_id, one.foil_id)
        for one in record.prompts.get(split, [])
    ]


def per_prompt(
    results: Results, record: CellRecord, split: str, strength: float | None = None
) -> Values | None:
    """Return (2, prompt): E_0 and F of every prompt of one cell; None where they are not stored.

    At `strength`, or at that which the cell is judged at.
    """
    beta = results.small_tensors(record.id).get(f"split.{split}.beta")
    if beta is None:
        return None
    strength = judged_at(record) if strength is None else strength
    signs = [int(np.abs(beta - sign * strength).argmin()) for sign in (1, -1)]
    return stored_terms(results, record, f"split.{split}", split, signs)


def _per_prompt_of_few_points(results: Results, record: CellRecord, split: str) -> Values | None:
    """(2, prompt): E_0 and F of every prompt of one cell, its strongest points alone."""
    stored = record.localisation
    few = [place for place, k in enumerate(stored.k) if k <= MAIN_K] if stored else []
    if stored is None or stored.split != split or not few:
        return None
    found = stored_terms(results, record, "localisation", split)
    return None if found is None else found[:, :, few[-1]]


def unsteered_values(results: Results, record: CellRecord, split: str) -> dict[str, Values] | None:
    """Return ld, p_answer and p_foil (prompt,) of the unsteered model; None if not stored."""
    tensors = results.small_tensors(record.id)
    names = ("ld", "p_answer", "p_foil")
    beta, *stored = (tensors.get(f"split.{split}.{name}") for name in ("beta", *names))
    if beta is None or not (beta == 0).any() or any(one is None for one in stored):
        return None
    at = int(np.flatnonzero(beta == 0)[0])
    known = zip(names, stored, strict=True)
    return {name: one[:, at].astype(np.float64) for name, one in known if one is not None}


def stored_terms(
    results: Results, record: CellRecord, name: str, split: str, signs: Sequence[int] | None = None
) -> Values | None:
    """Return (2, prompt, ...): the terms of E_0 and F of a cell's tensors `<name>.ld` and `.kl`.

    None where they are not stored for every prompt of the split. `signs` are the columns of +beta
    and -beta; without them these are the last axis.
    """
    tensors = results.small_tensors(record.id)
    ld, kl = (tensors.get(f"{name}.{kind}") for kind in ("ld", "kl"))
    if ld is None or kl is None or len(ld) != len(record.prompts.get(split, [])):
        return None
    return terms(ld, kl) if signs is None else terms(ld[:, signs], kl[:, signs])


def terms(ld: NDArray[Any], kl: NDArray[Any]) -> Values:
    """Return the terms of E_0 and F, stacked, of logit differences and KL with both signs last."""
    ld, kl = ld.astype(np.float64), kl.astype(np.float64)
    return np.stack([np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0), -kl.sum(axis=-1)])


def judged_at(record: CellRecord) -> float:
    """Return the strength at which a cell is judged: that of the main price where it has one.

    Else, as in the paper, beta*, of trained methods 1.
    """
    return own_strength(record) if record.main_price is None else record.main_price.beta


def own_strength(record: CellRecord) -> float:
    """Return the strength at which the paper judges a cell: beta*, of trained methods 1."""
    star = record.beta.star if record.beta else None
    return 1.0 if record.trained or star is None else star
