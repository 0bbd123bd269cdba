"""Circuits of the literature: what they name is there, and scores are compared with it."""

import pytest
import torch

from bench.evaluation.references import find_references, reference_circuits
from methods.core.points import Heads, PointGrid, Site

GPT2 = Heads(12, 12, 64)


def grid(*sites: Site, n_layers: int = 12, heads: Heads = GPT2) -> PointGrid:
    return PointGrid(sites, n_layers, tuple(range(1, 5)), 5, has_bos=True, heads=heads)


def test_every_head_is_one_of_the_models_and_stands_once() -> None:
    circuits = {circuit.name.split()[0]: circuit for circuit in reference_circuits()}
    counts = {"ioi": (26, 0), "greater_than": (11, 8), "docstring": (6, 0)}
    for name, circuit in circuits.items():
        heads = [tuple(head) for role in circuit.heads.values() for head in role]
        mlps = [layer for role in circuit.mlps.values() for layer in role]
        assert (len(heads), len(mlps)) == (len(set(heads)), len(set(mlps))) == counts[name]
        assert all(0 <= n < circuit.n_layers and 0 <= h < circuit.n_heads for n, h in heads)
        assert all(0 <= layer < circuit.n_layers for layer in mlps)
        assert circuit.source
    shapes = {name: (one.n_layers, one.n_heads) for name, one in circuits.items()}
    assert shapes == {"ioi": (12, 12), "greater_than": (12, 12), "docstring": (4, 8)}


@pytest.mark.parametrize("site", [Site.Z, Site.O])
def test_scores_that_are_the_circuit_find_it_and_random_ones_do_not(site: Site) -> None:
    points = grid(site, Site.MLP_OUT)
    (ioi, greater_than) = (one for one in reference_circuits() if one.model == "gpt2")
    for circuit, n_nodes in ((ioi, 144), (greater_than, 156)):
        scores = torch.zeros(points.shape)
        for row, place in enumerate(points.places):
            for layer in range(12):
                scores[row, layer, layer % 4] = -1.0 * ((layer, place.head) in circuit.kinds)
        (found,) = find_references("openai-community/gpt2", circuit.tasks[0], points, scores)
        assert (found.auroc, found.precision, found.n_points) == (1, 1, n_nodes)
        assert found.n_causal == len(circuit.kinds)
        noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(3))
        (found,) = find_references("gpt2", circuit.tasks[0], points, noise)
        assert found.auroc == pytest.approx(0.5, abs=0.15)
        assert set(found.misses) == ({"causal", "backup"} if circuit is ioi else {"causal"})


def test_other_models_tasks_and_sites_are_not_compared() -> None:
    scores = torch.ones(grid(Site.Z).shape)
    assert find_references("/models/gpt2/", "ioi", grid(Site.Z), scores)
    assert not find_references("gpt2-xl", "ioi", grid(Site.Z), scores)
    assert not find_references("gpt2", "gender", grid(Site.Z), scores)
    small = grid(Site.Z, n_layers=3)
    assert not find_references("gpt2", "ioi", small, torch.ones(small.shape))
    whole = grid(Site.ATTN_OUT, Site.MLP_OUT)
    assert not find_references("gpt2", "ioi", whole, torch.ones(whole.shape))
