"""Steering vectors over seeds: what of them is the same, and what is not.

Three statistics between every two seeds (the paper's Fig. 4, and what decides it): Kendall's tau-b
of the points ordered by change of norm; of the points ordered by cosine distance from where
training started (the paper's: near 0 whatever is learned when training starts near 0, since such a
start has no direction worth keeping); and the cosine between the trained vectors themselves.

After Fig. 4 of 'Activation Scaling for Steering and Interpreting Language Models' (2024), whose
cosine distance is told apart here from whether seeds find the same direction.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from pandas import DataFrame

from bench.agreement.table import kendall
from bench.store.records import CellRecord
from bench.store.tidy import variant_labels
from reports import style
from reports.figures.marks import BESIDE, draw_bar, draw_map, limit_of
from reports.figures.panels import Panel, canvas_of, fill, rows_of, total_of
from reports.load import Results, of_pair
from reports.scores import token_names
from reports.text import number
from tasks.errors import UserInputError

METHOD = "steer_vec"
TITLES = {
    "tau_norm": "change of norm ‖v‖",
    "tau_distance": "cosine distance from the start",
    "cosine": "cosine between seeds",
}
"""Of the map that explains each statistic."""
PANELS = [Panel(3.1, 2.2)] * 3
NAME, ROW, STACKED = 0.3, 3.1, 2.4
"""Inches of height: of a setting's name, of its maps side by side, and of each if they are not."""
KEY = (
    "means over seeds; points by layer and token. Under the maps: mean over pairs of seeds, and "
    "smallest to largest. Hatched: excluded, or no path leads to the answer."
)


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

    @property
    def maps(self) -> dict[str, NDArray[Any]]:
        """(layer, position) means over seeds at the first place, NaN where a point does not count.

        By statistic, which the map of it explains.
        """
        norms, distances = (one.mean(axis=0) for one in (self.norm_change, self.distance))
        kept = {"tau_norm": norms, "tau_distance": distances, "cosine": self.cosine.mean(axis=0)}
        return {name: np.where(self.kept, one, np.nan)[0] for name, one in kept.items()}

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
    groups: dict[str, list[CellRecord]] = {}
    for record in records:  # other draws of prompts are no other seeds
        draw = f" · prompts.seed={draws[record.id]}" if len(set(draws.values())) > 1 else ""
        groups.setdefault(f"{labels[record.id]}{draw}", []).append(record)
    found = []
    names = ("extra.norm_change", "extra.cosine_distance", "intervention.vectors")
    for label, group in groups.items():
        if len(group) > 1:
            tensors = [results.cell(record.id).tensors for record in group]
            found.append(
                Seeds(label, group, *(np.stack([t[name] for t in tensors]) for name in names))
            )
    if not found:
        raise UserInputError(
            f"{results.store.directory} has no {METHOD} with several seeds on {model} · {task}; "
            "`seeds: [0, 1, 2]` makes some."
        )
    return found


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a setting and statistic: model, task, method, statistic, n_seeds, mean, low,
    high (smallest and largest over pairs of seeds).
    """
    return DataFrame(
        [
            {
                **{"model": model, "task": task, "method": seeds.label, "statistic": name},
                **{"n_seeds": len(seeds.records), "mean": float(values.mean())},
                **{"low": float(values.min()), "high": float(values.max())},
            }
            for seeds in seeds_of(results, model, task)
            for name, values in seeds.statistics().items()
        ]
    )


@of_pair
def maps(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a setting, layer and position: the means over seeds that the maps show."""
    rows = []
    for seeds in seeds_of(results, model, task):
        grid = seeds.records[0].grid
        assert grid is not None
        shown = np.stack([*seeds.maps.values()], axis=-1)
        for layer, column in np.ndindex(shown.shape[:2]):
            values = map(float, shown[layer, column])
            rows.append((seeds.label, layer, grid.positions[column], *values))
    names = ["setting", "layer", "position", "norm_change", "distance", "cosine"]
    return DataFrame(rows, columns=names)


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return a row of three maps for every setting with several seeds; of several sites the first.

    Raises UserInputError where SteerVec has no two seeds of one setting.
    """
    settings = seeds_of(results, model, task)
    total = total_of(PANELS) if width is None else width
    n_rows = len(rows_of(PANELS, total))
    height = NAME + (ROW if n_rows == 1 else STACKED) * n_rows
    canvas = canvas_of(total, height * len(settings), f"{model} · {task}", [KEY])
    parts = canvas.subfigures(len(settings), 1, squeeze=False)[:, 0]
    for part, seeds in zip(parts, settings, strict=True):
        _draw_setting(canvas, part, seeds, total)
    return canvas


def _draw_setting(canvas: Figure, part: SubFigure, seeds: Seeds, total: float) -> None:
    record = seeds.records[0]
    assert record.grid is not None
    names = token_names(record.prompts["train"][0], record.grid.positions, style.token_label)
    statistics = seeds.statistics()
    site = record.grid.places[0].label
    title = f"{seeds.label} · {site} · {len(seeds.records)} seeds"
    part.suptitle(style.fit(title, total - 0.4, style.NAME), fontsize=style.NAME, x=0.01, ha="left")
    page = fill(canvas, part, PANELS, total)
    for axes, width, (name, values) in zip(page.axes, page.widths, seeds.maps.items(), strict=True):
        # of distances 1 is no relation to the start: the middle of their scale
        low, high = {"tau_distance": (0.0, 2.0), "cosine": (-1.0, 1.0)}.get(
            name, (-limit_of(values), limit_of(values))
        )
        how: dict[str, Any] = {"title": TITLES[name], "low": low, "room": width - BESIDE}
        draw_bar(draw_map(axes, values, names, high, **how), axes)
        short = "mean cosine" if name == "cosine" else "τ between seeds"
        found = statistics[name]
        text = f"{short}: {number(float(np.mean(found)), 2)}"
        spread = f"[{number(float(np.min(found)), 2)}, {number(float(np.max(found)), 2)}]"
        axes.set_xlabel(f"{text} {spread}", labelpad=4)
