"""Finding: do the scores of a method rank the points of a known circuit first?

Points are those that could matter (`methods.controls.points_that_could_matter`): that nothing
differs before the words that differ is no finding. Scores below 1e-6 of the largest count as equal;
points of equal score count as drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from bench.models.planted.circuit import CAUSAL, Circuit
from bench.store.records import FindingRecord, KnownPoint
from methods.controls import points_that_could_matter
from methods.core.points import Place, PointGrid, Site
from methods.core.prompts import Prompts

TIED = 1e-6
"""Scores below this share of the largest are rounding."""
OTHER = "other"
GROUPS: Mapping[str, frozenset[Site]] = {
    "components": frozenset({Site.ATTN_OUT, Site.MLP_OUT, Site.Z, Site.O}),
    "residual": frozenset({Site.RESID_MID, Site.RESID_POST}),
}
"""What is ranked together. The residual stream carries what the parts of a circuit write, so most
of it on the way is causal."""


@dataclass(frozen=True)
class Known:
    """Points with their labels, one after the other.

    Attributes:
        scores: (point,), those below `TIED` of the largest 0.
        kinds: (point,), a kind of `bench.models.planted.circuit`, or "other".
        signs: (point,), of the exact effect; 0 where there is none.
    """

    scores: NDArray[np.float64]
    kinds: NDArray[np.str_]
    signs: NDArray[np.float64]

    @property
    def causal(self) -> NDArray[np.bool_]:
        """(point,)."""
        return np.isin(self.kinds, CAUSAL)


def find(
    circuit: Circuit,
    grid: PointGrid,
    prompts: Prompts,
    scores: Float[Tensor, "place layer position"],
    *,
    signed: bool,
) -> list[FindingRecord]:
    """Compare scores with a circuit; a record for each of `GROUPS` that has causal points.

    Args:
        circuit: what is known.
        grid: the points.
        prompts: of train, which say where the prompts differ.
        scores: of every point.
        signed: whether they have a sign.
    """
    kinds, signs = labels_of(circuit, grid)
    matter = points_that_could_matter(prompts, grid).numpy()
    found = []
    for group, sites in GROUPS.items():
        rows = np.array([place.site in sites for place in grid.places])
        chosen = matter & rows[:, None, None]
        values = scores.double().cpu().numpy()[chosen]
        values[np.abs(values) < TIED * np.abs(values).max(initial=0.0)] = 0.0
        known = Known(values, kinds[chosen], signs[chosen])
        if known.causal.any() and not known.causal.all():
            points = [
                KnownPoint(grid.places[a].label, b, grid.positions[c], str(kinds[a, b, c]))
                for a, b, c in np.argwhere(chosen & (kinds != OTHER)).tolist()
            ]
            found.append(record_of(circuit.family, group, known, points, signed=signed))
    return found


def labels_of(circuit: Circuit, grid: PointGrid) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Kind and sign of every point, (place, layer, position) each."""
    kinds = np.full(grid.shape, OTHER, dtype="<U10")
    signs = np.zeros(grid.shape)
    where = {position: column for column, position in enumerate(grid.positions)}
    for row, place in enumerate(grid.places):
        for part in circuit.parts:
            if _writes(part.site, part.head, place) and part.position in where:
                at = row, part.layer, where[part.position]
                kinds[at], signs[at] = part.kind, part.sign
        if place.site in GROUPS["residual"]:
            offset = int(place.site is Site.RESID_POST)
            for one in circuit.carried:
                layers = [
                    n for n in range(grid.n_layers) if one.written <= 2 * n + offset < one.read
                ]
                if one.position in where:
                    kinds[row, layers, where[one.position]] = "causal"
    return kinds, signs


def _writes(site: str, head: int | None, place: Place) -> bool:
    """Whether a part of a circuit writes what a place is."""
    if place.head is not None:
        return place.site in (Site.Z, Site.O) and head == place.head
    return place.site.value == site


def record_of(
    family: str, group: str, known: Known, points: list[KnownPoint], *, signed: bool
) -> FindingRecord:
    """How the sizes of scores rank causal points, of which there are some and not only such."""
    sizes, causal = np.abs(known.scores), known.causal
    among = chance_among_strongest(sizes, int(causal.sum()))
    wrong = {kind: float(among[known.kinds == kind].sum()) for kind in _kinds(known, ~causal)}
    missed = {kind: float((1 - among)[known.kinds == kind].sum()) for kind in _kinds(known, causal)}
    has_signs = signed and bool(known.signs[causal].all())
    return FindingRecord(
        family=family,
        group=group,
        n_points=len(sizes),
        n_causal=int(causal.sum()),
        auroc=auroc(sizes, causal),
        auroc_signed=signed_auroc(known) if has_signs else None,
        average_precision=average_precision(sizes, causal),
        precision=float(among[causal].sum() / causal.sum()),
        false_positives=wrong,
        misses=missed,
        points=points,
    )


def _kinds(known: Known, chosen: NDArray[np.bool_]) -> list[str]:
    return sorted({str(kind) for kind in known.kinds[chosen]})


def auroc(sizes: NDArray[np.float64], causal: NDArray[np.bool_]) -> float:
    """The chance that a causal point has the larger size than one that is not; ties are halves."""
    above = sizes[causal][:, None] - sizes[~causal]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def signed_auroc(known: Known) -> float:
    """The same of scores, taken with the sign that each causal point really has.

    A causal point with the wrong sign loses against every point whose score is 0; chance is 0.5.
    """
    causal = known.causal
    signs = known.signs[causal][:, None]
    above = signs * known.scores[causal][:, None] - signs * known.scores[~causal]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def average_precision(sizes: NDArray[np.float64], causal: NDArray[np.bool_]) -> float:
    """Precision averaged over the causal points, in steps of equal size: no interpolation."""
    total, before = 0.0, 0
    for threshold in np.unique(sizes)[::-1]:
        taken = sizes >= threshold
        right = int(causal[taken].sum())
        total += (right - before) * right / int(taken.sum())
        before = right
    return total / int(causal.sum())


def chance_among_strongest(sizes: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Each point's chance to be among the k of largest size, where equal ones are drawn."""
    threshold = np.sort(sizes)[-k]
    above, equal = sizes > threshold, sizes == threshold
    return np.where(above, 1.0, np.where(equal, (k - above.sum()) / equal.sum(), 0.0))
