"""Circuits of the literature: heads and MLPs that papers found a model to do a task with.

They were found by path patching in one model each, and are no ground truth as planted circuits are:
a head that they do not name may take part. Positions are left out, as the papers give them in words
('the second name'), so that a head or MLP has the sum of its points' scores.

Sources: those of `references.json`, a circuit each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from bench.evaluation.finding import OTHER, TIED, Known, record_of
from bench.store.records import FindingRecord
from methods.core.points import PointGrid, Site

FILE = Path(__file__).with_name("references.json")
GROUP = "nodes"
"""What is ranked together: heads, and MLPs where the circuit has some."""
BACKUP = "backup"
"""In the role of a head that acts when others are gone."""


@dataclass(frozen=True)
class ReferenceCircuit:
    """A circuit of a paper.

    Attributes:
        name: what was found, and by whom.
        model: the last part of the model's name or folder.
        tasks: of this suite, that ask what the circuit was found for.
        n_layers, n_heads: of the model.
        source: the paper, and where else the same heads stand.
        heads: role -> (layer, head), from 0.
        mlps: role -> layer.
    """

    name: str
    model: str
    tasks: Sequence[str]
    n_layers: int
    n_heads: int
    source: str
    heads: Mapping[str, Sequence[tuple[int, int]]]
    mlps: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def is_of(self, model: str, task: str, grid: PointGrid) -> bool:
        """Whether a model of this name and shape is asked what the circuit was found for."""
        called = model.rstrip("/").rsplit("/")[-1]
        heads = grid.heads.n_heads if grid.heads else 0
        same_shape = (grid.n_layers, heads) == (self.n_layers, self.n_heads)
        return called == self.model and task in self.tasks and same_shape

    @property
    def kinds(self) -> dict[tuple[int, int | None], str]:
        """(layer, head), or (layer, None) of an MLP, and whether it is causal or a backup."""
        nodes = [(role, layer, head) for role, of in self.heads.items() for layer, head in of]
        mlps = [(role, layer, None) for role, layers in self.mlps.items() for layer in layers]
        return {
            (layer, head): "backup" if BACKUP in role else "causal"
            for role, layer, head in [*nodes, *mlps]
        }


@cache
def reference_circuits() -> tuple[ReferenceCircuit, ...]:
    """All that are known here."""
    return tuple(ReferenceCircuit(**one) for one in json.loads(FILE.read_text("utf-8")))


def find_references(
    model: str, task: str, grid: PointGrid, scores: Float[Tensor, "place layer position"]
) -> list[FindingRecord]:
    """Compare scores with the circuits that papers found in this model; a record for each.

    Args:
        model: as the user names it.
        task: its name in `TASKS`.
        grid: the points; only heads (z, else o) and mlp_out are compared.
        scores: NaN at points that are left out.
    """
    found = []
    for circuit in reference_circuits():
        known = _known(circuit, grid, scores) if circuit.is_of(model, task, grid) else None
        if known is not None and known.causal.any() and not known.causal.all():
            found.append(record_of(circuit.name, GROUP, known, [], signed=False))
    return found


def _known(
    circuit: ReferenceCircuit, grid: PointGrid, scores: Float[Tensor, "place layer position"]
) -> Known:
    """The nodes' scores and what the paper says of them."""
    summed = scores.nan_to_num(nan=0.0).double().sum(dim=-1).cpu().numpy()
    kinds = circuit.kinds
    heads = Site.Z if Site.Z in grid.sites else Site.O
    compared = {heads, Site.MLP_OUT} if circuit.mlps else {heads}
    nodes = [
        (float(summed[row, layer]), kinds.get((layer, place.head), OTHER))
        for row, place in enumerate(grid.places)
        if place.site in compared
        for layer in range(grid.n_layers)
    ]
    values = np.array([score for score, _ in nodes], dtype=float)
    values[np.abs(values) < TIED * np.abs(values).max(initial=0.0)] = 0.0
    names = np.array([kind for _, kind in nodes], dtype="<U10")
    return Known(values, names, np.zeros(len(nodes)))
