"""A run as an object, and the comparison of a few prompts on a model in memory."""

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench.evaluation.provenance import machine
from bench.execution.failure import failure
from bench.execution.progress import NotebookProgress
from bench.matrix.cells import expand
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
    rows = []
    for place, (word, colour) in enumerate(zip(WORDS, COLOURS, strict=True)):
        other = (place + 1) % len(WORDS)
        clean, corrupted = (f"the colour of {one} is" for one in (word, WORDS[other]))
        rows.append((clean, corrupted, colour, COLOURS[other]))
    return pd.DataFrame(rows, columns=["clean", "corrupted", "answer", "foil"])


@pytest.fixture
def tokenizer(prompts: pd.DataFrame) -> Any:
    return tiny_tokenizer([*prompts["clean"], *COLOURS])


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
    from transformers import AutoModelForCausalLM

    record = next(
        one for one in run.results.records if one.trained and not one.control and one.seed == 1
    )
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(tiny_folder).eval()
    prompts = record.prompts["test"]
    tokens = torch.tensor([prompt.token_ids for prompt in prompts])
    rows = torch.arange(len(prompts))
    answers, foils = (
        torch.tensor([getattr(p, n) for p in prompts]) for n in ("answer_id", "foil_id")
    )
    lds = []
    for beta in (1.0, -1.0):
        with steered(model, run.intervention("activ_scalar", seed=1), beta), torch.no_grad():
            logits = model(tokens).logits[:, -1]
        lds.append(logits[rows, answers] - logits[rows, foils])
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

    model.save_pretrained(tmp_path / "folder")
    tokenizer.save_pretrained(tmp_path / "folder")
    options["output"] = tmp_path / "by_name"
    by_name = bench.compare(["grad_scalar"], str(tmp_path / "folder"), prompts, **options)
    np.testing.assert_allclose(run.scores("grad_scalar"), by_name.scores("grad_scalar"), atol=1e-5)
    with pytest.raises(UserInputError, match="in the memory of the process"):
        load_model(name)


def test_rows_that_the_model_cannot_take_are_left_out(
    prompts: pd.DataFrame, tokenizer: Any, tmp_path: Path
) -> None:
    """Though most are too long for its context, in memory and by name."""
    longer = [prompts.assign(**{c: f"{word} is " * 3 + prompts[c] for c in ("clean", "corrupted")})
              for word in ("the", "of", "sky")]  # fmt: skip
    both = pd.concat([*longer, prompts], ignore_index=True)
    model = tiny_model("gpt2", vocab=len(tokenizer), n_positions=6)
    model.save_pretrained(tmp_path / "folder")
    tokenizer.save_pretrained(tmp_path / "folder")
    for place, one in enumerate((model, str(tmp_path / "folder"))):
        run = bench.compare(
            ["grad_scalar"], one, both, tokenizer=tokenizer, output=tmp_path / f"out-{place}",
            controls={"draws": 0},
        )  # fmt: skip
        assert set(run.table()["status"]) == {"done"}
        record = run.results.records[0]
        lengths = {len(row.token_ids) for row in record.prompts["test"]}
        assert lengths == {6}
    for wrong, words in (
        (prompts.assign(answer=4), "has 4 as answer, which is not text"),
        (pd.concat([prompts, prompts["foil"]], axis=1), 'the column "foil" is there twice'),
        (prompts.to_dict("records"), "DataFrame is needed, and this is list"),
    ):
        output: Any = {"tokenizer": tokenizer, "output": tmp_path / "n"}
        with pytest.raises(UserInputError, match=words):
            bench.compare(["grad_scalar"], model, wrong, **output)


def test_the_checksum_follows_weights_configuration_and_tokenizer(tokenizer: Any) -> None:
    def name(tokens: Any = tokenizer, **settings: Any) -> str:
        return InMemory(tiny_bridge("gpt2", **settings), tokens, "GPT2").digest

    other = name(seed=1)
    changed = name(layer_norm_epsilon=1e-3)
    assert len({name(), other, changed, name(tiny_tokenizer(["other words"]))}) == 4
    assert name() == name()
    memory = InMemory(tiny_bridge("gpt2"), tokenizer, "GPT2")
    with held(memory), torch.no_grad():
        planned = memory.digest
        next(iter(memory.bridge.parameters())).add_(1)
        assert load_model(memory.name).digest != planned, "a changed weight is noticed"


def test_progress_in_a_notebook_ends_with_what_was_done_and_what_failed(tiny_folder: Path) -> None:
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            shown.append(data)

    matrix = brief_matrix(tiny_folder, seeds=[0, 1], methods=["grad_scalar"], controls={"draws": 0})
    cells = expand(matrix, lambda name: name, lambda device: device)
    progress = NotebookProgress(Handle())
    progress.planned(cells, 2, 5.0)
    progress.refused("tcp://10.0.0.1:1: no <suite>\x1b[31m")
    for cell in cells:
        progress.starting(cell)
        progress.finished(cell, failure(cell, RuntimeError("no luck"), machine()))
    progress.close()
    assert "2 cells are done already" in shown[0]["text/plain"]
    assert any("ioi grad_scalar seed 0" in data["text/plain"] for data in shown)
    assert shown[-1]["text/plain"].startswith("0 of 2 done, 2 failed in about 1 s\ntcp://")
    assert shown[-1]["text/html"].startswith('<progress value="2" max="2"></progress> 0 of 2')
    assert "no &lt;suite&gt;\\x1b[31m<br>failed: " in shown[-1]["text/html"]
    assert "(2 times)" in shown[-1]["text/plain"]  # one line a reason and method


def test_a_run_with_nothing_to_do_says_so_in_a_notebook() -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(data["text/plain"])

    progress = NotebookProgress(Handle())
    progress.planned([], 4, None)
    progress.close()
    assert shown[-1] == "4 cells are done already and stay as they are; 0 cells to compute."
