"""A run as an object, and the comparison of a few prompts on a model in memory."""

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import bench
from bench.models.load import load_model
from bench.models.memory import InMemory, held
from bench.models.tiny import tiny_bridge, tiny_model, tiny_tokenizer
from bench.notebook import Run
from bench.steering import steered
from tasks.errors import UserInputError
from tests.small import brief_matrix

WORDS = ["sky", "snow", "grass", "coal", "rose", "sun"]
COLOURS = [" blue", " white", " green", " black", " red", " gold"]


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("notebook") / "run"
    matrix = brief_matrix(tiny_folder, seeds=[0, 1], sites=["attn_out", "z"])
    return bench.run(matrix.model_dump(), folder)


@pytest.fixture
def prompts() -> pd.DataFrame:
    next_to = [*WORDS[1:], WORDS[0]], [*COLOURS[1:], COLOURS[0]]
    clean, corrupted = ([f"the colour of {one} is" for one in part] for part in (WORDS, next_to[0]))
    columns = {"clean": clean, "corrupted": corrupted, "answer": COLOURS, "foil": next_to[1]}
    return pd.DataFrame(columns)


@pytest.fixture
def tokenizer(prompts: pd.DataFrame) -> Any:
    return tiny_tokenizer([*prompts["clean"], *COLOURS])


def in_folder(model: Any, tokenizer: Any, folder: Path) -> str:
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return str(folder)


def test_scores_are_the_stored_ones_with_their_labels(run: Run) -> None:
    scores = run.scores("grad_scalar")
    record = next(one for one in run.results.records if one.method == "grad_scalar")
    assert record.grid is not None
    sites = [place.label for place in record.grid.places]
    stored = run.results.cell(record.id).tensors["scores"]
    np.testing.assert_array_equal(scores, stored)  # no training: every seed's
    assert [*scores["site"].values] == sites
    assert set(sites) == {"attn_out", "z.0", "z.1", "z.2", "z.3"}
    tokens = record.prompts["train"][0].tokens
    assert [*scores["token"].values] == [tokens[at] for at in scores["position"].values]
    assert scores.sel(site="z.2", layer=1).dims == ("position",)


def test_tables_and_figures_by_name_and_the_leaderboard(run: Run) -> None:
    board = run.leaderboard()
    assert {"grad_scalar", "activ_scalar[epochs=3]"} <= set(board["method"])
    assert {"E_0_test", "E_0_unsteered_test"} <= set(board.columns)
    assert len(run.table()) == len(pd.read_csv(run.directory / "results.csv"))
    assert {"method_a", "p_holm"} <= set(run.table("paired", task="ioi").columns)
    assert isinstance(run.figure("maps", task="ioi"), matplotlib.figure.Figure)
    assert "grad_scalar" in run._repr_html_()
    assert "cells done" in repr(bench.open(run.directory))


def test_what_is_not_there_is_named(run: Run) -> None:
    for ask, words in (
        (lambda: run.table("pared"), "paired"),
        (lambda: run.figure("map"), "maps"),
        (lambda: run.scores("grad_scaler"), "grad_scalar"),
        (lambda: run.scores("grad_scalar", task="ccc"), "ccc"),
        (lambda: run.intervention("activ_scalar"), "seeds: 0, 1"),
        (lambda: bench.open(run.directory / "cells"), "is not a results directory"),
    ):
        with pytest.raises(UserInputError, match=words):
            ask()


def test_an_intervention_steers_as_its_cell_says(run: Run, tiny_folder: Path) -> None:
    (record,) = [
        one for one in run.results.records if one.trained and not one.control and one.seed == 1
    ]
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    prompts = record.prompts["test"]
    tokens = torch.tensor([prompt.token_ids for prompt in prompts])
    lds = []
    for beta in (1.0, -1.0):
        with steered(model, run.intervention("activ_scalar", seed=1), beta), torch.no_grad():
            logits = model(tokens).logits[:, -1]
        pairs = zip(logits, prompts, strict=True)
        lds.append(torch.stack([row[one.answer_id] - row[one.foil_id] for row, one in pairs]))
    e_0 = -(torch.relu(-lds[0]) + torch.relu(lds[1])).mean()
    (stored,) = [row for row in record.metrics if (row.split, row.beta_kind) == ("test", "one")]
    assert float(e_0) == pytest.approx(stored.E_0, abs=1e-4)


def test_a_model_in_memory_is_compared_and_left_as_it_was(
    prompts: pd.DataFrame, tokenizer: Any, tmp_path: Path
) -> None:
    model = tiny_model("llama", vocab=len(tokenizer)).train().requires_grad_(True)
    ids = torch.tensor([tokenizer(prompts["clean"][0])["input_ids"]])
    before = model(ids).logits
    options: dict[str, Any] = {"controls": {"draws": 1}, "output": tmp_path / "out"}
    run = bench.compare(["grad_scalar"], model, prompts, tokenizer=tokenizer, **options)
    assert torch.equal(model(ids).logits, before)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    assert set(run.table()["status"]) == {"done"}
    (name,) = set(run.table()["model"])
    assert name.startswith("LlamaForCausalLM@")

    options["output"] = tmp_path / "by_name"
    folder = in_folder(model, tokenizer, tmp_path / "folder")
    by_name = bench.compare(["grad_scalar"], folder, prompts, **options)
    np.testing.assert_allclose(run.scores("grad_scalar"), by_name.scores("grad_scalar"), atol=1e-5)
    with pytest.raises(UserInputError, match="in the memory of the process"):
        load_model(name)


def test_rows_that_the_model_cannot_take_are_left_out(
    prompts: pd.DataFrame, tokenizer: Any, tmp_path: Path
) -> None:
    """Though most are too long for its context, in memory and by name."""
    texts = prompts[["clean", "corrupted"]]
    longer = [prompts.assign(**(f"{word} is " * 3 + texts)) for word in ("the", "of", "sky")]
    both = pd.concat([*longer, prompts], ignore_index=True)
    model = tiny_model("gpt2", vocab=len(tokenizer), n_positions=6)
    options: dict[str, Any] = {"tokenizer": tokenizer, "controls": {"draws": 0}}
    for one in (model, in_folder(model, tokenizer, tmp_path / "folder")):
        output = tmp_path / type(one).__name__
        run = bench.compare(["grad_scalar"], one, both, output=output, **options)
        assert set(run.table()["status"]) == {"done"}
        (record,) = run.results.records
        assert {len(row.token_ids) for row in record.prompts["test"]} == {6}
    for wrong, words in (
        (prompts.assign(answer=4), "has 4 as answer, which is not text"),
        (pd.concat([prompts, prompts["foil"]], axis=1), 'the column "foil" is there twice'),
        (prompts.to_dict("records"), "DataFrame is needed, and this is list"),
    ):
        with pytest.raises(UserInputError, match=words):
            bench.compare(["grad_scalar"], model, wrong, output=tmp_path / "n", **options)


def test_the_checksum_follows_weights_configuration_and_tokenizer(tokenizer: Any) -> None:
    def name(tokens: Any = tokenizer, **settings: Any) -> str:
        return InMemory(tiny_bridge("gpt2", **settings), tokens, "GPT2").digest

    others = name(seed=1), name(layer_norm_epsilon=1e-3), name(tiny_tokenizer(["other words"]))
    assert len({name(), name(), *others}) == 4
    memory = InMemory(tiny_bridge("gpt2"), tokenizer, "GPT2")
    with held(memory), torch.no_grad():
        planned = memory.digest
        next(iter(memory.bridge.parameters())).add_(1)
        assert load_model(memory.name).digest != planned, "a changed weight is noticed"
