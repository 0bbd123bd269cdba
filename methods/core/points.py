"""Intervention points: which activations of a prompt a method scores and scales.

An intervention point is one (place, layer, position), where a place is a site of width d_model or
one head of a head-level site; the grid of a cell is the set K = layers x positions x sites
(x heads) of the paper (Section 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tasks.errors import UserInputError, nearest


class Site(StrEnum):
    """Where within a layer an activation can be edited, in the order of the forward pass."""

    Q = "q"
    """A head's query as it meets the keys: behind a norm of queries, before the softmax's scale."""
    K = "k"
    """The key of a key-value head, behind a norm of keys."""
    V = "v"
    """The values of a key-value head; under grouped-query attention n_kv_heads of them."""
    Z = "z"
    """A head's weighted values, before W_O."""
    O = "o"  # noqa: E741 (the field's name)
    """A head's own contribution W_O z; the output bias belongs to no head. Scaling or replacing it
    is scaling or replacing z, and is done there."""
    ATTN_OUT = "attn_out"
    """What the attention adds to the residual stream (s = 1)."""
    RESID_MID = "resid_mid"
    """The residual stream between attention and MLP (s = 2)."""
    MLP_OUT = "mlp_out"
    """What the MLP adds to the residual stream (s = 3)."""
    RESID_POST = "resid_post"
    """The residual stream behind the layer (s = 4)."""


ALL_SITES = frozenset(Site)
HEAD_SITES = frozenset({Site.Q, Site.K, Site.V, Site.Z, Site.O})
"""Sites with one activation a head."""
SHARED_SITES = frozenset({Site.K, Site.V})
"""Those with one a key-value head, which later positions read."""
NARROW_SITES = HEAD_SITES - {Site.O}
"""Those whose activations are as wide as a head."""
POSITION_WORDS = ("all", "every", "last")

Positions = str | Sequence[int]
"""`all` (every position but the BOS), `every` (BOS included), `last`, or a list of indices."""

FINAL_RESIDUAL_NOTE = (
    "left out: resid_post of the last layer at the answer position (a loophole under a "
    "scale-invariant final norm: its scalar negates every logit difference or does nothing)"
)


def parse_sites(names: Iterable[str]) -> tuple[Site, ...]:
    """Sites by name, in the order of the forward pass.

    Raises:
        UserInputError: for an unknown name (names the nearest), a repeated one or none at all.
    """
    names = list(names)
    known = [site.value for site in Site]
    for name in names:
        if name not in known:
            raise UserInputError(f'sites: there is no site "{name}".{nearest(name, known)}')
    if len(set(names)) != len(names):
        raise UserInputError(f"sites: {', '.join(names)} names a site twice.")
    if not names:
        raise UserInputError(f"sites: none given; choose from {', '.join(known)}.")
    return tuple(site for site in Site if site.value in names)


def check_positions(positions: Positions) -> None:
    """Whether positions are given by a known word or as a list.

    Raises:
        UserInputError: for an unknown word (names the nearest).
    """
    if isinstance(positions, str) and positions not in POSITION_WORDS:
        raise UserInputError(
            f'positions: there is no choice "{positions}".{nearest(positions, POSITION_WORDS)} '
            "A list of indices, such as [1, -1], works too."
        )


def resolve_positions(positions: Positions, n_positions: int, has_bos: bool) -> tuple[int, ...]:
    """Indices, ascending, of the positions that a prompt of `n_positions` tokens is given.

    Raises:
        UserInputError: for an unknown word, an index outside the prompt or a repeated one.
    """
    check_positions(positions)
    if isinstance(positions, str):
        words = {
            "all": range(1 if has_bos else 0, n_positions),
            "every": range(n_positions),
            "last": range(n_positions - 1, n_positions),
        }
        return tuple(words[positions])
    for index in positions:
        if not -n_positions <= index < n_positions:
            raise UserInputError(
                f"positions: {index} is outside a prompt of {n_positions} tokens; "
                f"indices go from {-n_positions} to {n_positions - 1}."
            )
    resolved = sorted({index % n_positions for index in positions})
    if len(resolved) != len(positions) or not resolved:
        raise UserInputError(
            f"positions: {list(positions)} must name at least one position and none twice."
        )
    return tuple(resolved)


@dataclass(frozen=True)
class Heads:
    """The attention heads of a model.

    Attributes:
        n_heads: query heads, which q, z and o are counted by.
        n_kv_heads: key-value heads, which k and v are counted by.
        d_head: width of q, k, v and z.
    """

    n_heads: int
    n_kv_heads: int
    d_head: int

    def count(self, site: Site) -> int:
        """Heads of a head-level site."""
        return self.n_kv_heads if site in SHARED_SITES else self.n_heads


@dataclass(frozen=True)
class Place:
    """A site of width d_model, or one head of a head-level site."""

    site: Site
    head: int | None = None

    @property
    def label(self) -> str:
        """`attn_out`, or `o.3` for head 3."""
        return self.site.value if self.head is None else f"{self.site.value}.{self.head}"


@dataclass(frozen=True)
class PointGrid:
    """The intervention points of prompts of one length, as an array (place, layer, position).

    Attributes:
        sites: the sites, in the order of the forward pass.
        n_layers: layers of the model; all of them are part of the grid.
        positions: indices into the prompt, ascending.
        n_positions: length of the prompt in tokens, BOS included.
        keep_final_residual: keep the last layer's `resid_post` at the answer position.
        has_bos: position 0 of the prompt is the BOS.
        heads: the model's heads; only grids with head-level sites need them.
    """

    sites: tuple[Site, ...]
    n_layers: int
    positions: tuple[int, ...]
    n_positions: int
    keep_final_residual: bool = False
    has_bos: bool = False
    heads: Heads | None = None

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The first axis of scores: the sites, head by head where a site has heads."""
        return tuple(Place(site, head) for site in self.sites for head in self._heads_of(site))

    def _heads_of(self, site: Site) -> Sequence[int | None]:
        if site not in HEAD_SITES:
            return (None,)
        if self.heads is None:
            raise ValueError(f"a grid with the head-level site {site} needs to know the heads")
        return range(self.heads.count(site))

    def rows(self, site: Site) -> slice:
        """The entries of the first axis of scores that belong to a site."""
        index = [row for row, place in enumerate(self.places) if place.site is site]
        return slice(index[0], index[-1] + 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(places, layers, positions)."""
        return len(self.places), self.n_layers, len(self.positions)

    def widths(self, d_model: int) -> list[int]:
        """Width of what a vector at each place is compared with or added to."""
        return [
            self.heads.d_head if self.heads and place.site in NARROW_SITES else d_model
            for place in self.places
        ]

    def at_points(
        self, site: Site, values: Float[Tensor, "row position *head_and_rest"], start: int = 0
    ) -> Float[Tensor, "row place chosen *rest"]:
        """What a hook of `site` sees, or one number of each activation, at the grid's points.

        The first position of `values` is position `start` of the prompt; points before it are
        left out.
        """
        chosen = values[:, [position - start for position in self.positions if position >= start]]
        return chosen.movedim(2, 1) if site in HEAD_SITES else chosen[:, None]

    @property
    def site_layers(self) -> list[tuple[Site, int]]:
        """Every (site, layer) of the grid: what has to be hooked."""
        return [(site, layer) for layer in range(self.n_layers) for site in self.sites]

    @cached_property
    def included(self) -> Bool[Tensor, "place layer position"]:
        """False at the points that are left out (see `FINAL_RESIDUAL_NOTE`)."""
        included = torch.ones(self.shape, dtype=torch.bool)
        answer = self.n_positions - 1
        if (
            Site.RESID_POST in self.sites
            and answer in self.positions
            and not self.keep_final_residual
        ):
            included[self.rows(Site.RESID_POST), -1, self.positions.index(answer)] = False
        return included

    @property
    def reaches_answer(self) -> Bool[Tensor, "place layer position"]:
        """False where no path leads to the answer position.

        That is the last layer at other positions, except for keys and values, which the answer
        position's attention reads.
        """
        reaches = torch.ones(self.shape, dtype=torch.bool)
        for row, place in enumerate(self.places):
            if place.site not in SHARED_SITES:
                reaches[row, -1] = torch.tensor(self.positions) == self.n_positions - 1
        return reaches

    @property
    def n_points(self) -> int:
        """Number of points that take part."""
        return int(self.included.sum())

    @property
    def excluded(self) -> list[tuple[str, int, int]]:
        """The points left out, as (label of the place, layer, position in the prompt)."""
        return [
            (self.places[place].label, layer, self.positions[position])
            for place, layer, position in (~self.included).nonzero().tolist()
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader of the results has to know about the grid."""
        return [FINAL_RESIDUAL_NOTE] if self.excluded else []


def make_grid(
    sites: Iterable[str],
    positions: Positions,
    *,
    n_layers: int,
    n_positions: int,
    has_bos: bool,
    keep_final_residual: bool = False,
    heads: Heads | None = None,
) -> PointGrid:
    """The grid for prompts of `n_positions` tokens.

    Raises:
        UserInputError: for unknown sites or positions, head-level sites of a model whose heads are
            not known, or if no point is left.
    """
    parsed = parse_sites(sites)
    if heads is None and HEAD_SITES.intersection(parsed):
        wanted = ", ".join(site for site in parsed if site in HEAD_SITES)
        raise UserInputError(f"sites: {wanted} need attention heads, which this model has not.")
    grid = PointGrid(
        parsed,
        n_layers,
        resolve_positions(positions, n_positions, has_bos),
        n_positions,
        keep_final_residual,
        has_bos,
        heads,
    )
    if grid.n_points == 0:
        raise UserInputError("sites and positions leave no intervention point.")
    return grid
