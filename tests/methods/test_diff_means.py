"""DiffMeans against TransformerLens's cache, and steering with a strength that is tuned."""

from pathlib import Path

import pytest
import torch

from bench.execution.run import run_matrix
from bench.matrix.cells import expand
from methods.core.steering_vectors import SteeringVectors
from methods.diff_means import DiffMeans
from reports.figures.corruption import data
from reports.load import load
from tasks.errors import UserInputError
from tests.methods.lens import activation, cache_of
from tests.methods.small import FIRST_DIFFERENCE, apart, grid_of, prompts, setting, subject
from tests.small import brief_matrix


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3"])
def test_vectors_are_mean_differences_of_the_two_caches(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["v", "z", "attn_out", "mlp_out"], [1, 4, 6])
    found = DiffMeans().fit(model, some, grid, setting())
    assert isinstance(found.intervention, SteeringVectors)
    clean, corrupted = cache_of(model, some.tokens), cache_of(model, some.corrupted)
    for site, layer in grid.site_layers:
        change = activation(clean, site, layer) - activation(corrupted, site, layer)
        theirs = grid.at_points(site, change).mean(dim=0)
        ours = found.intervention.vectors[grid.rows(site), layer, :, : theirs.shape[-1]]
        assert apart(ours, theirs) < 1e-5
        scores = found.scores[grid.rows(site), layer]
        assert apart(scores, theirs.norm(dim=-1)) < 1e-5
    assert torch.all(found.scores[:, :, 0] == 0)  # before the first token that differs
    assert grid.positions[0] < FIRST_DIFFERENCE


def test_a_whole_step_from_the_corrupted_mean_is_the_clean_mean() -> None:
    """At beta = -1 one layer's residual stream of a single prompt is that of the corrupted run."""
    model, some = subject("llama"), prompts(1)
    grid = grid_of(model, ["resid_post"], keep_final_residual=True)
    vectors = DiffMeans().fit(model, some, grid, setting()).intervention
    assert vectors is not None
    keep = torch.zeros(grid.shape, dtype=torch.bool)
    keep[:, 1] = True
    with torch.no_grad():
        steered = model.logits(some.tokens, vectors.at_points(keep).at(-torch.ones(1)))
    assert apart(steered, model.unsteered_logits(some.corrupted)) < 1e-4


def test_its_strength_is_tuned_and_its_scores_are_shuffled(
    tiny_folder: Path, tmp_path: Path
) -> None:
    both = brief_matrix(tiny_folder, methods=["diff_means", "dla"])
    labels = {cell.method.label for cell in expand(both, lambda name: "", lambda device: "cpu")}
    assert {"shuffled[of=dla]", "shuffled[of=diff_means]"} <= labels
    matrix = brief_matrix(
        tiny_folder,
        methods=["diff_means"],
        positions="last",
        sweep={"points": 3},
        controls={"draws": 0},
    )
    outcome = run_matrix(matrix, tmp_path / "run")
    assert not outcome.failed
    records = {record.method: record for record in map(outcome.store.record, outcome.computed)}
    assert set(records) == {"diff_means"}
    record = records["diff_means"]
    assert record.beta.star is not None
    assert record.intervention == "steering_vectors"
    assert not record.trained
    assert record.minimality is not None
    assert record.minimality.unit == "vector"
    with pytest.raises(UserInputError, match="one corruption at most"):
        data(load(outcome.store.directory))  # it has a corruption, and no direction
