"""Eq. 4, 5 and 10 against plain loops, and what holds of every intervention."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.patches import PatchedRows
from methods.core.points import HEAD_SITES, Heads, PointGrid, Site
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from tests.methods.lens import activation, cache_of, full_logits
from tests.methods.small import N_POSITIONS, SERIAL, apart, grid_of, in_turn, make, prompts, subject

KINDS = (StaticScaling, SteeringVectors, DynamicScaling)
D_MODEL = 32
WIDE = tuple(site for site in Site if site not in HEAD_SITES)


def parameters(intervention: Any) -> Any:
    """The parameters as an array of float64."""
    (only,) = intervention.parameters()
    return only.detach().double().numpy()


def loop_edit(own: Any, site: Site, layer: int, h: Any, beta: Any, output: Any = None) -> Any:
    """Eq. 4, 5 or 10, a vector at a time; at o, h of Eq. 10 is W_O z."""
    grid, theta, out, places = own.grid, parameters(own), h.copy(), own.grid.rows(site)
    each = product(range(len(h)), enumerate(grid.positions), range(places.start, places.stop))
    for row, (p, position), place in each:
        if not grid.included[place, layer, p]:
            continue
        head = place - places.start
        at = (row, position, head) if site in HEAD_SITES else (row, position)
        if isinstance(own, SteeringVectors):
            out[at] = h[at] + beta[row] * theta[place, layer, p, : len(h[at])]
            continue
        if isinstance(own, StaticScaling):
            alpha = theta[place, layer, p]
        elif grid.has_bos and position == 0:
            continue  # Eq. 10 leaves the BOS alone
        else:
            read = h[at] @ output[layer, head] if site is Site.O else h[at]
            norm = sum(x * x for x in read) ** 0.5
            alpha = theta[place, layer, : len(read)] @ read / norm if norm > 0 else 0.0
        out[at] = h[at] * (1 + beta[row] * alpha)
    return out


def a_grid(positions: Any = (1, 3, 6)) -> PointGrid:
    """All sites, two layers; the last residual at the answer position is left out."""
    return PointGrid(WIDE, 2, tuple(positions), N_POSITIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_edits_are_the_equations(kind: Any) -> None:
    """At every site, head by head where it has heads; points that are left out do nothing."""
    sites = tuple(site for site in Site if (site, kind) != (Site.O, SteeringVectors))
    grid = PointGrid(sites, 2, (1, 3, 6), N_POSITIONS, heads=Heads(4, 2, 8))
    grid.included[:, 1, 1] = False
    own, generator = make(kind, grid), torch.Generator().manual_seed(1)
    output = torch.randn((2, 4, 8, D_MODEL), generator=generator)
    if kind is DynamicScaling:
        own = kind(grid, own.gates.detach(), output)
    beta = torch.tensor([1.0, -2.0, 0.5])
    for site, layer in grid.site_layers:
        n = grid.rows(site).stop - grid.rows(site).start
        shape = (n, 8) if site in HEAD_SITES else (D_MODEL,)
        h = torch.randn((3, N_POSITIONS, *shape), generator=generator)
        h[1, 3] = 0
        found = own.at(beta)(site, layer, h).detach()
        arrays = h.double().numpy(), beta.numpy(), output.double().numpy()
        expected = loop_edit(own, site, layer, *arrays)
        assert apart(found, torch.from_numpy(expected)) < 1e-5
        outside = [p for p in range(N_POSITIONS) if p not in grid.positions]
        assert torch.equal(found[:, outside], h[:, outside])
        assert not torch.equal(found[:, 1], h[:, 1])
    assert torch.equal(found[:, 6], h[:, 6]), "the last residual at the answer"


def test_dynamic_scalar_of_nothing_is_zero() -> None:
    """||h|| = 0, or ||W_O z|| = 0 as of a pruned head: alpha = 0, and gradients are numbers."""
    grid = PointGrid((Site.O, Site.ATTN_OUT), 1, (0, 1), 2, heads=Heads(4, 2, 8))
    output = torch.randn((1, 4, 8, D_MODEL), generator=torch.Generator().manual_seed(0))
    output[0, 1] = 0
    own = DynamicScaling(grid, make(DynamicScaling, grid).gates.detach(), output)
    for site, h in ((Site.O, torch.randn(3, 2, 4, 8)), (Site.ATTN_OUT, torch.zeros(3, 2, D_MODEL))):
        h.requires_grad_()
        alpha = own.alpha(site, 0, h)
        assert torch.all((alpha[:, 1] if site is Site.O else alpha) == 0)
        assert site is not Site.O or bool(alpha[:, 0].abs().min() > 0)
        own.at(torch.ones(3))(site, 0, h).square().sum().backward()
        assert h.grad is not None
        assert bool(torch.isfinite(h.grad).all())
        assert own.gates.grad is not None
        assert bool(torch.isfinite(own.gates.grad).all())


@pytest.mark.parametrize(("architecture", "kind"), in_turn(ARCHITECTURES, KINDS))
def test_beta_zero_leaves_every_bit_in_bfloat16(architecture: str, kind: Any) -> None:
    """In fp32 that is a check of every method."""
    model, some = subject(architecture, torch.bfloat16), prompts()
    intervention = make(kind, grid_of(model, keep_final_residual=True))
    with torch.no_grad():
        plain = model.logits(some.tokens)
        steered = model.logits(some.tokens, intervention.at(torch.zeros(3)))
        one = model.logits(some.tokens, intervention.at(torch.tensor([0.0, 1.0, 0.0])))
    assert torch.equal(plain, steered)
    assert torch.equal(plain[[0, 2]], one[[0, 2]])
    assert apart(plain[1], one[1]) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_steered_run_is_the_loop_at_every_hook(kind: Any) -> None:
    """Points act together: every hook applies the equation to what the earlier ones left."""
    model, some = subject(), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out", "resid_post"])
    intervention = make(kind, grid)
    beta = [1.0, -1.0, 0.5]
    hooks = []
    for site, layer in grid.site_layers:

        def by_loop(h: Any, hook: Any, site: Site = site, layer: int = layer) -> Any:
            edited = loop_edit(intervention, site, layer, h.double().numpy(), beta)
            return torch.from_numpy(edited).to(h.dtype)

        hooks.append((f"blocks.{layer}.hook_{site}", by_loop))
    expected = full_logits(model, some.tokens, hooks)[:, -1]
    with torch.no_grad():
        found = model.logits(some.tokens, intervention.at(torch.tensor(beta)))
    assert apart(found, expected) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_units_are_kept(kind: Any) -> None:
    grid = a_grid()
    own = make(kind, grid)
    full = parameters(own)
    norms = np.linalg.norm(full, axis=-1) if kind is SteeringVectors else np.abs(full)
    part = np.ones(norms.shape, bool) if kind is DynamicScaling else grid.included.numpy()
    ranked = sorted(norms[part], reverse=True)
    for k in (0, 1, 5, 10_000):
        least = ranked[min(k, len(ranked)) - 1] if k else np.inf
        chosen = part & (norms >= least)
        chosen = chosen.reshape(*norms.shape, *[1] * (full.ndim - norms.ndim))
        np.testing.assert_array_equal(parameters(own.keep_largest(k)), np.where(chosen, full, 0))
    np.testing.assert_allclose(sorted(own.magnitudes().numpy())[::-1], ranked, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_acts_at_chosen_points_acts_there_alone_when_its_largest_are_kept(kind: Any) -> None:
    grid, beta = a_grid(), torch.ones(4)
    keep = torch.rand(grid.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    chosen = make(kind, grid).at_points(keep)
    every = chosen.keep_largest(chosen.magnitudes().numel())
    h = torch.randn((4, N_POSITIONS, D_MODEL), generator=torch.Generator().manual_seed(4))
    differs = False
    for site, layer in grid.site_layers:
        edited = chosen.at(beta)(site, layer, h)
        assert torch.equal(every.at(beta)(site, layer, h), edited)
        differs |= not torch.equal(make(kind, grid).at(beta)(site, layer, h), edited)
    assert differs
    assert chosen.on(grid) is None  # points are of this length alone


def test_scores_become_scalars_of_size_one() -> None:
    grid = a_grid()
    scores = torch.randn(grid.shape, generator=torch.Generator().manual_seed(0))
    scores[0, 1, 2] = -8.0
    scores[-1, -1, -1] = float("nan")  # left out of the grid
    alpha = StaticScaling.from_scores(grid, scores).alpha.detach()
    assert alpha[0, 1, 2] == -1
    assert alpha[-1, -1, -1] == 0
    expected = torch.where(grid.included, scores / 8, torch.zeros(()))
    assert apart(alpha, expected) < 1e-7
    for bad in (float("nan"), float("inf")):
        scores[0, 0, 0] = bad
        with pytest.raises(ValueError, match="NaN or infinite scores"):
            StaticScaling.from_scores(grid, scores)


@pytest.mark.parametrize(
    ("architecture", "site"),
    [(name, Site.RESID_POST) for name in ARCHITECTURES]
    + [(name, Site.RESID_MID) for name in SERIAL],
)
def test_a_whole_residual_stream_is_a_whole_run(architecture: str, site: Site) -> None:
    """Closed form: with all positions of one layer patched nothing of the clean run is left."""
    model, some = subject(architecture), prompts()
    clean, corrupted = (full_logits(model, t)[:, -1] for t in (some.tokens, some.corrupted))
    assert apart(clean, corrupted) > 0.1
    cache = cache_of(model, some.corrupted)
    where = torch.cartesian_prod(torch.arange(len(some)), torch.arange(N_POSITIONS)).unbind(1)
    for layer in range(model.n_layers):
        edit = PatchedRows({(site, layer): (where, activation(cache, site, layer)[where])})
        with torch.no_grad():
            assert apart(model.logits(some.tokens, edit), corrupted) < 1e-4


def test_a_row_is_patched_without_touching_the_others() -> None:
    h = torch.zeros((3, N_POSITIONS, D_MODEL))
    value = torch.ones((2, D_MODEL), dtype=torch.float64)
    where = torch.tensor([0, 2]), torch.tensor([4, 1])
    edit = PatchedRows({(Site.ATTN_OUT, 1): (where, value)})
    assert list(edit.points) == [(Site.ATTN_OUT, 1)]
    found = edit(Site.ATTN_OUT, 1, h)
    expected = torch.zeros_like(h)
    expected[0, 4] = expected[2, 1] = 1
    assert torch.equal(found, expected)
    assert torch.all(h == 0)


@pytest.mark.parametrize("kind", [StaticScaling, DynamicScaling])
def test_a_small_scalar_acts_in_bf16(kind: Any) -> None:
    """1 + 0.003 is 1 in bf16; the product with an activation is rounded once, not the factor."""
    grid = a_grid((0, 1, 2, 3, 4, 5, 6))
    intervention = make(kind, grid)
    with torch.no_grad():
        for parameter in intervention.parameters():
            parameter.fill_(0.003)
    h = torch.randn((4, N_POSITIONS, D_MODEL), generator=torch.Generator().manual_seed(4))
    h = h.bfloat16()
    edited = intervention.at(torch.ones(4))(Site.ATTN_OUT, 0, h).detach()
    assert edited.dtype == torch.bfloat16
    assert float((edited != h).float().mean()) > 0.1
    assert torch.equal(intervention.at(torch.zeros(4))(Site.ATTN_OUT, 0, h), h)
