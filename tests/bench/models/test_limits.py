"""Prompts that a model cannot take are named, by `tasks` and as failed cells; never run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.execution.run import run_matrix
from bench.models.load import load_model
from bench.models.tiny import save_tiny
from tasks.errors import UserInputError
from tests.small import brief_matrix, task_texts


def test_prompts_longer_than_the_context_are_dropped_with_both_numbers(tmp_path: Path) -> None:
    """Of a model of eight learned positions."""
    short = save_tiny(tmp_path / "short", "gpt2", task_texts(), n_positions=8)
    assert load_model(str(short), device="cpu").limits.context == 8
    said = CliRunner().invoke(app, ["tasks", "--model", str(short), "--task", "ioi"])
    assert said.exit_code == 0
    assert "12 tokens (BOS included), and the model's context is 8 (217)" in said.output
    matrix = brief_matrix(
        short, tasks=["ioi", "ccc"], methods=["grad_scalar"], controls={"draws": 0}
    )
    failed = run_matrix(matrix, tmp_path / "run").failed
    assert {record.error.kind for record in failed if record.error} == {"UserInputError"}
    assert {record.task for record in failed} == {"ioi", "ccc"}


def test_ids_beyond_the_embedding_are_named(tmp_path: Path) -> None:
    """A tokenizer with more tokens than its model: words of the prompts, then the BOS."""
    folder = save_tiny(tmp_path / "wide", "llama", task_texts())
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    vocabulary = data["model"]["vocab"]
    size = len(vocabulary)
    vocabulary[" gave"] = size
    path.write_text(json.dumps(data), "utf-8")
    said = CliRunner().invoke(app, ["tasks", "--model", str(folder), "--task", "ioi"])
    assert said.exit_code == 0
    assert f"token ' gave' has the id {size}, and the model has {size} tokens" in said.output
    with pytest.raises(UserInputError, match=f'has the id {size}.*{size} tokens.*"none"'):
        load_model(str(folder), device="cpu", bos=" gave")
