"""Steering vectors over seeds: what of them is the same, and what is not.

Three statistics between every two seeds (the paper's Fig. 4, and what decides it): Kendall's tau-b
of the points ordered by change of norm; of the points ordered by cosine distance from where
training started (the paper's: near 0 whatever is learned when training starts near 0, since such a
start has no direction worth keeping); and the cosine between the trained vectors themselves.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from bench.agreement.table import kendall
from bench.store.records import CellRecord
from bench.store.tidy import variant_labels
from reports.load import Results, of_pair
from tasks.errors import UserInputError

METHOD = "steer_vec"


@dataclass(frozen=True)
class Seeds:
    """The cells of one setting that differ in their seeds alone.

    Attributes:
        label: as in the leaderboard.
        records: a cell a seed.
        norm_change: (seed, place, layer, position), NaN where a point is left out.
        distance: the same: cosine distance from where training started.
        vectors: (seed, place, layer, position, width).
    """

    label: str
    records: list[CellRecord]
    norm_change: NDArray[Any]
    distance: NDArray[Any]
    vectors: NDArray[Any]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Points that take part and from which a path leads to the answer position."""
        record = self.records[0]
        assert record.grid is not None
        answer = len(record.prompts["train"][0].token_ids) - 1
        kept: NDArray[np.bool_] = np.isfinite(self.norm_change[0])
        kept[:, -1, np.array(record.grid.positions) != answer] = False
        return kept

    @property
    def cosine(self) -> NDArray[np.float64]:
        """(pair of seeds, place, layer, position): cosine of their trained vectors."""
        length = np.linalg.norm(self.vectors, axis=-1, keepdims=True)
        directions = self.vectors / np.where(length > 0, length, 1)
        pairs = combinations(range(len(directions)), 2)
        cosines = [(directions[a] * directions[b]).sum(axis=-1) for a, b in pairs]
        return np.where(self.kept, np.stack(cosines), np.nan)

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Return for each pair of seeds how far they agree.

        tau_norm and tau_distance: τ over the points, by change of norm and by cosine distance from
        the start. cosine: the mean cosine between the trained vectors.
        """
        pairs = list(combinations(range(len(self.records)), 2))

        def taus(values: NDArray[Any]) -> NDArray[np.float64]:
            return np.array([kendall(values[a], values[b], self.kept) for a, b in pairs])

        return {
            "tau_norm": taus(self.norm_change),
            "tau_distance": taus(self.distance),
            "cosine": np.nanmean(self.cosine, axis=(1, 2, 3)),
        }


def seeds_of(results: Results, model: str, task: str) -> list[Seeds]:
    """Return the steering vectors of every setting with two seeds or more, in the run's order.

    Every draw of prompts is a setting of its own. Raises UserInputError where there is none.
    """
    records = [
        record
        for record in results.of(model, task)
        if record.settings.get("method", {}).get("name") == METHOD and record.status == "done"
    ]
    labels = variant_labels(records)
    draws = {record.id: (record.settings.get("prompts") or {}).get("seed", 0) for record in records}
    several = len(set(draws.values())) > 1
    groups: dict[str, list[CellRecord]] = {}
    for record in records:  # other draws of prompts are no other seeds
        draw = f" · prompts.seed={draws[record.id]}" if several else ""
        groups.setdefault(f"{labels[record.id]}{draw}", []).append(record)
    found = [_read(results, label, group) for label, group in groups.items() if len(group) > 1]
    if not found:
        raise UserInputError(
            f"{results.store.directory} has no {METHOD} with several seeds on {model} · {task}; "
            "`seeds: [0, 1, 2]` makes some."
        )
    return found


def _read(results: Results, label: str, group: list[CellRecord]) -> Seeds:
    tensors = [results.cell(record.id).tensors for record in group]
    return Seeds(
        label,
        group,
        np.stack([one["extra.norm_change"] for one in tensors]),
        np.stack([one["extra.cosine_distance"] for one in tensors]),
        np.stack([one["intervention.vectors"] for one in tensors]),
    )


@of_pair
def table(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a setting and statistic: model, task, method, statistic, n_seeds, mean, low,
    high (smallest and largest over pairs of seeds).
    """
    return DataFrame(
        [
            {
                "model": model,
                "task": task,
                "method": seeds.label,
                "statistic": name,
                "n_seeds": len(seeds.records),
                "mean": float(values.mean()),
                "low": float(values.min()),
                "high": float(values.max()),
            }
            for seeds in seeds_of(results, model, task)
            for name, values in seeds.statistics().items()
        ]
    )
