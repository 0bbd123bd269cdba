"""Which points a grid holds."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.core.points import (
    FINAL_RESIDUAL_NOTE,
    Heads,
    PointGrid,
    Site,
    make_grid,
    parse_sites,
    resolve_positions,
)
from tasks.errors import UserInputError


def test_the_papers_gpt2_xl_has_912_points() -> None:
    """18 tokens behind a BOS, 48 layers, one site (Section 5 of the paper)."""
    grid = make_grid(["mlp_out"], "every", n_layers=48, n_positions=19, has_bos=True)
    assert grid.n_points == 912
    assert grid.shape == (1, 48, 19)
    assert not grid.excluded
    assert not grid.notes


def test_sites_come_in_the_order_of_the_forward_pass() -> None:
    names = ["resid_post", "attn_out", "z", "mlp_out", "o", "resid_mid", "v", "k", "q"]
    assert parse_sites(names) == tuple(Site)
    assert [site.value for site in Site] == [
        *("q", "k", "v", "z", "o", "attn_out", "resid_mid", "mlp_out", "resid_post")
    ]


@pytest.mark.parametrize(
    ("positions", "has_bos", "expected"),
    [
        ("all", True, (1, 2, 3, 4)),
        ("all", False, (0, 1, 2, 3, 4)),
        ("every", True, (0, 1, 2, 3, 4)),
        ("every", False, (0, 1, 2, 3, 4)),
        ("last", True, (4,)),
        ([-1, 0, 2], True, (0, 2, 4)),
    ],
)
def test_positions(positions: Any, has_bos: bool, expected: tuple[int, ...]) -> None:
    assert resolve_positions(positions, 5, has_bos) == expected


def test_the_final_residual_at_the_answer_is_left_out_with_a_note() -> None:
    grid = make_grid(["mlp_out", "resid_post"], [-2, -1], n_layers=3, n_positions=5, has_bos=True)
    assert grid.excluded == [("resid_post", 2, 4)]
    assert grid.notes == [FINAL_RESIDUAL_NOTE]
    assert grid.n_points == 2 * 3 * 2 - 1
    assert not bool(grid.included[1, 2, 1])


@pytest.mark.parametrize(
    ("sites", "positions", "n_layers", "n_positions", "message"),
    [
        (["atn_out"], "all", 3, 5, 'there is no site "atn_out". Did you mean "attn_out"?'),
        (["attn_out", "attn_out"], "all", 3, 5, "names a site twice"),
        ([], "all", 3, 5, "none given; choose from q, k, v, z, o, attn_out, resid_mid"),
        (["mlp_out"], "lst", 3, 5, 'there is no choice "lst". Did you mean "last"?'),
        (["mlp_out"], [5], 3, 5, "5 is outside a prompt of 5 tokens; indices go from -5 to 4"),
        (["mlp_out"], [-6], 3, 5, "-6 is outside"),
        (["mlp_out"], [4, -1], 3, 5, "none twice"),
        (["mlp_out"], [], 3, 5, "at least one position"),
        (["resid_post"], "last", 1, 4, "leave no intervention point"),
        (["attn_out"], "all", 2, 1, "leave no intervention point"),
    ],
)
def test_grids_that_make_no_sense_are_refused(
    sites: list[str], positions: Any, n_layers: int, n_positions: int, message: str
) -> None:
    with pytest.raises(UserInputError, match=re.escape(message)):
        make_grid(sites, positions, n_layers=n_layers, n_positions=n_positions, has_bos=True)


@given(
    sites=st.sets(st.sampled_from(list(Site)), min_size=1),
    n_layers=st.integers(1, 4),
    n_positions=st.integers(2, 6),
    data=st.data(),
)
def test_points_included_and_excluded_make_up_the_grid(
    sites: set[Site], n_layers: int, n_positions: int, data: st.DataObject
) -> None:
    positions = data.draw(st.sets(st.integers(0, n_positions - 1), min_size=1))
    grid = PointGrid(
        tuple(site for site in Site if site in sites),
        n_layers,
        tuple(sorted(positions)),
        n_positions,
        heads=Heads(4, 2, 8),
    )
    n_places = sum(
        {Site.Q: 4, Site.K: 2, Site.V: 2, Site.Z: 4, Site.O: 4}.get(site, 1) for site in sites
    )
    total = n_places * n_layers * len(positions)
    assert grid.shape == (n_places, n_layers, len(positions))
    assert [place for site in grid.sites for place in grid.places[grid.rows(site)]] == [
        *grid.places
    ]
    assert len({place.label for place in grid.places}) == n_places
    assert grid.n_points + len(grid.excluded) == total
    assert len(grid.excluded) == int(Site.RESID_POST in sites and n_positions - 1 in positions)
    assert len(grid.site_layers) == len(set(grid.site_layers)) == len(sites) * n_layers
    assert torch.equal(grid.included, grid.included.bool())
