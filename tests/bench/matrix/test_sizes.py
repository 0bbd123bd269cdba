"""Sizes of a matrix, and running it on other models and tasks."""

from pathlib import Path

import pytest

from bench.matrix.config import load_config
from tasks.errors import UserInputError

TEXT = """
models: [{name: smollm2-135m, dtype: bfloat16}]
tasks: [{name: ccc, template: paper}, ioi]
methods: [dla]
prompts: {train: 2, test: 5}
sizes:
  paper:
    models: [gpt2]
    prompts: {train: 1}
  broken:
    prompts: {trian: 1}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(TEXT)
    return file


def test_a_size_is_merged_over_the_rest(file: Path) -> None:
    small, paper = load_config(file), load_config(file, size="paper")
    assert [model.name for model in small.models] == ["smollm2-135m"]
    assert [model.name for model in paper.models] == ["gpt2"]
    assert small.prompts.each[0].sizes == {"train": 2, "test": 5, "shifted": 12}
    assert paper.prompts.each[0].sizes == {"train": 1, "test": 5, "shifted": 12}
    assert (small.output, paper.output) == ("results/mine", "results/mine-paper")


def test_other_models_and_tasks_have_results_of_their_own(file: Path) -> None:
    matrix = load_config(file, models=["gpt2", "org/other"], tasks=["ccc"])
    assert [model.name for model in matrix.models] == ["gpt2", "org/other"]
    assert [(task.name, task.settings) for task in matrix.tasks] == [("ccc", {"template": "paper"})]
    assert matrix.output == "results/mine-gpt2-other-ccc"
    own = load_config(file, models=["smollm2-135m"], tasks=["induction"])
    assert own.models[0].dtype == "bfloat16"
    assert [(task.name, task.settings) for task in own.tasks] == [("induction", {})]


def test_an_unknown_size_names_the_nearest(file: Path) -> None:
    with pytest.raises(UserInputError, match=r'no size "papr".*Did you mean "paper".*small'):
        load_config(file, size="papr")


def test_a_mistake_in_a_size_is_one_in_the_matrix(file: Path) -> None:
    with pytest.raises(UserInputError, match=r'no key "prompts.trian"'):
        load_config(file, size="broken")
    load_config(file, size="paper")


def test_a_path_is_one_beside_the_file(file: Path) -> None:
    (file.parent / "own.jsonl").touch()
    file.write_text("models: [m]\nmethods: [dla]\ntasks: [{name: file, path: own.jsonl}]\n")
    assert load_config(file).tasks[0].settings == {"path": str(file.parent / "own.jsonl")}
    assert load_config(file, tasks=["ioi"]).tasks[0].settings == {}


@pytest.mark.parametrize("sizes", ["[paper]", "{paper: 3}"])
def test_sizes_that_are_no_mappings_are_refused(tmp_path: Path, sizes: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{TEXT.partition('sizes:')[0]}sizes: {sizes}\n")
    with pytest.raises(UserInputError, match=r'"sizes" has to be a mapping'):
        load_config(file)
