"""How much work a cell is: rows of a forward and of a backward, counted before it is computed.

A count needs the model's layers and heads, and how long the task's prompts are. Neither the model
nor its tokenizer is loaded for that: words stand for tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from bench.matrix.cells import PlannedCell
from bench.models.shape import ModelShape, model_shape
from methods import METHODS
from methods.core.points import HEAD_SITES, SHARED_SITES, Site
from tasks.task import PromptPair, Task

BACKWARD = 1.4
"""A row of a backward, in rows of a forward."""
PATCHED = 0.3
"""A row that is resumed at its layer and position, in rows of a forward from the start."""
TUNED_STRENGTHS = 36
"""Strengths that tuning runs on every train prompt; others are given up (`evaluation.beta`)."""
EVALUATIONS_OF_K = 8
NOISE_DRAWS = 10
"""Contrasts of Gaussian noise (`methods.core.corruption`)."""
ANY_SHAPE = ModelShape(n_layers=12, n_heads=12, n_kv_heads=12)
ANY_EPOCHS = 25
"""Of a model that is not here, and of a method that does not say."""
LOOKED_AT = 4
"""Pairs of a task that tell how long its prompts are."""
PIECES = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Work:
    """Rows (one prompt each) that go through the model.

    Attributes:
        forward: all of them.
        backward: of which a gradient is taken.
        patched: those of `forward` that are resumed where they are patched.
    """

    forward: float
    backward: float
    patched: float = 0.0

    @property
    def cost(self) -> float:
        """The same in rows of a forward."""
        return self.forward - (1 - PATCHED) * self.patched + BACKWARD * self.backward


class Stored(Protocol):
    """A stored cell; `bench.store.records.CellRecord` is one."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the cell's numbers."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was around while they were made."""
        ...


def work_of_stored(cell: Stored) -> Work:
    """What a stored cell counted while it was computed.

    Raises:
        KeyError: if it does not say, or its method is not known here; of a cell that somebody
            else made also what their texts and lists lead to.
    """
    passes, method = cell.provenance["passes"], METHODS[cell.settings["method"]["name"]].load()
    patched = passes["fit_forward_rows"] if method.runs_every_point else 0
    return Work(float(passes["forward_rows"]), float(passes["backward_rows"]), float(patched))


@dataclass(frozen=True)
class Length:
    """Of a task's prompts, in words and punctuation marks.

    Attributes:
        whole: of the clean prompt.
        differing: from the first piece on in which the corrupted one differs.
        varying: from the first piece on in which prompts differ from each other.
    """

    whole: int = 24
    differing: int = 16
    varying: int = 16

    @staticmethod
    def of(task: Task) -> Length:
        """As its first pairs have it; the default where it gives none."""
        try:
            pairs = [*islice(task.candidates("train", list(task.entities()), 0), LOOKED_AT)]
        except Exception:  # an estimate is no place to say what is wrong with somebody's task
            pairs = []
        return Length.of_pairs(pairs) if pairs else Length()

    @staticmethod
    def of_pairs(pairs: Sequence[PromptPair]) -> Length:
        """As these pairs have it."""
        clean = [PIECES.findall(pair.clean) for pair in pairs]
        corrupted = [PIECES.findall(pair.corrupted) for pair in pairs]
        same = [_common(one, other) for one, other in zip(clean, corrupted, strict=True)]
        alike = min(_common(clean[0], other) for other in clean)
        whole = round(sum(map(len, clean)) / len(clean))
        return Length(whole, max(1, whole - min(same)), max(0, whole - alike))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many pieces are the same from the start on."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@dataclass
class Counting:
    """Counts the work of cells; what it has found out about models and tasks is kept."""

    shapes: dict[str, ModelShape] = field(default_factory=dict)
    lengths: dict[str, Length] = field(default_factory=dict)

    def __call__(self, cell: PlannedCell) -> Work:
        """About the rows that computing a cell takes."""
        settings = cell.settings
        fit = self._fit(cell)
        train, tests = cell.prompts.train, cell.prompts.test + cell.prompts.shifted
        trained = type(cell.method.method).trained
        tuned = 0 if trained else TUNED_STRENGTHS * train
        evaluated = 2 * (train + tests) if trained else 4 * tests
        elsewhere = 4 * cell.prompts.test * len(cell.transfer)
        sweep = settings["sweep"]
        in_full = not (type(cell.method.method).control and cell.method.method.number_of_draw)
        swept = 2 * sweep["prompts"] * (sweep["points"] - 1)
        searched = 2 * EVALUATIONS_OF_K * train
        sizes = settings.get("sparsity", {}).get("points", 0)
        sparse = sizes * (TUNED_STRENGTHS * train + 2 * cell.prompts.test)
        rest = tuned + evaluated + elsewhere + (swept + searched if in_full else 0) + sparse
        return Work(fit.forward + rest, fit.backward, fit.patched)

    def _fit(self, cell: PlannedCell) -> Work:
        """The rows of the method itself."""
        method, train = cell.settings["method"], cell.prompts.train
        kind = type(cell.method.method)
        if kind.trained:
            epochs = method.get("epochs")
            steps = 2 * (epochs if isinstance(epochs, int) else ANY_EPOCHS) * train
            return Work(steps + 2 * train, steps)
        if kind.control:
            return Work(0, 0)
        corruption = method.get("corruption")
        contrasts = NOISE_DRAWS if corruption == "gaussian" else 1
        if kind.runs_every_point:
            patched = contrasts * train * (self._patches(cell, corruption) + 3)
            return Work(patched, 0, patched)
        layers, sites = self._shape(cell).n_layers, len(cell.settings["sites"])
        runs = cell.method.method.gradient_runs(layers, sites)
        runs *= contrasts * train
        return Work(runs + (0 if corruption is None else contrasts * train), runs)

    def _shape(self, cell: PlannedCell) -> ModelShape:
        """Layers and heads of the cell's model."""
        if cell.model.name not in self.shapes:
            self.shapes[cell.model.name] = model_shape(cell.model.name) or ANY_SHAPE
        return self.shapes[cell.model.name]

    def _patches(self, cell: PlannedCell, corruption: object) -> float:
        """Patches of one prompt that can change something."""
        if cell.task.label not in self.lengths:
            self.lengths[cell.task.label] = Length.of(cell.task.task)
        shape, length = self._shape(cell), self.lengths[cell.task.label]
        positions = cell.settings["positions"]
        if corruption == "mean" and cell.prompts.train == 1:
            return 0
        at, last = _patched_positions(positions, length, corruption)
        total = 0.0
        for site in map(Site, cell.settings["sites"]):
            places = shape.heads(site in SHARED_SITES) if site in HEAD_SITES else 1
            at_last_layer = at if site in SHARED_SITES else last
            total += places * ((shape.n_layers - 1) * at + at_last_layer)
        return total


def _patched_positions(
    positions: str | Sequence[int], length: Length, corruption: object
) -> tuple[int, int]:
    """How many of the positions can differ, and how many of these are the answer position."""
    reach = {"counterfactual": length.differing, "mean": length.varying}
    differing = min(reach.get(str(corruption), length.whole), length.whole)
    if positions == "last":
        return min(1, differing), min(1, differing)
    if isinstance(positions, str):
        return differing, min(1, differing)
    n_positions = length.whole + 1  # the BOS
    found = {at % n_positions for at in positions}
    chosen = [at for at in found if at >= n_positions - differing]
    return len(chosen), int(n_positions - 1 in chosen)
