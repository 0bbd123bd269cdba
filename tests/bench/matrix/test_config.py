"""The matrix as data: presets are valid, sizes, and every mistake names what would be right."""

from pathlib import Path
from typing import Any

import pytest

from bench.matrix.config import load_config, preset_names
from bench.matrix.yaml_file import parse
from tasks.errors import UserInputError

SMALL = {"models": ["smollm2-135m"], "tasks": ["ioi"], "methods": ["dla"]}


@pytest.mark.parametrize("name", sorted({*preset_names()} - {"paper"}))
def test_presets_are_valid_and_say_what_they_are(name: str) -> None:
    assert load_config(name).output == f"results/{name}"
    assert preset_names()[name]


def test_a_name_alone_is_a_choice_without_settings() -> None:
    matrix = parse({**SMALL, "tasks": ["ioi", {"name": "ccc", "template": "paper"}]}, "here")
    assert [(task.name, task.settings) for task in matrix.tasks] == [
        ("ioi", {}),
        ("ccc", {"template": "paper"}),
    ]


def test_a_file_gives_its_name_to_the_results(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("models: [smollm2-135m]\ntasks: [ioi]\nmethods: [dla]\n")
    assert load_config(file).output == "results/mine"
    assert load_config(str(file)) == load_config(file)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"site": ["attn_out"]}, ['"site"', 'Did you mean "sites"']),
        ({"prompts": {"tran": 3}}, ['"prompts.tran"', 'Did you mean "train"']),
        ({"models": [{"name": "gpt2", "dtyp": "float32"}]}, ["models.0.dtyp", 'mean "dtype"']),
        ({"prompts": {"train": 0}}, ['"prompts.train" is 0', "greater than or equal to 1"]),
        ({"prompts": {"train": "many"}}, ["'many'", "integer"]),
        ({"objective": {"margin": [0, -1]}}, ['"objective.margin.1" is -1']),
        ({"tasks": []}, ['"tasks" is []', "at least 1"]),
        ({"methods": None}, ['"methods" is None', "list"]),
        ({"models": [{"dtype": "float32"}]}, ['the key "models.0.name" is missing']),
        ({"sweep": {"points": 20}}, ["odd"]),
        ({"seeds": [0, 10**20]}, ["seeds.1", "less than 9223372036854775808"]),
        ({"output": "a\0b"}, ['"output"']),
        ({"positions": {"a": 1}}, ["positions"]),
        ({"objective": {"lambda_f": -1}}, ["lambda_f", "greater than or equal to 0"]),
        ({"rows_per_forward": 0}, ['"rows_per_forward" is 0', "equal to 1, or input", "'auto'."]),
        ({5: 3}, ['"5" is a key that is no text']),
        ({"methods": [{"name": "dla", 5: 3}]}, ['"methods.0.5" is a key that is no text']),
        ({"positions": [True]}, ['"positions.0": true is no number']),
        ({"positions": 3}, ['"positions" is 3', "string, or input", "list"]),
        ({"objective": {"margin": [1, True]}}, ['"objective.margin.1": true is no number']),
        ({"prompts": {"seed": -(2**70)}}, ['"prompts.seed" is', "or equal to -9223372036854"]),
        ({"prompts": {"test": 16**5000}}, ["a number of thousands of digits, but"]),
        ({"methods": [{"name": "activ_scalar", "epochs": [1, 2**70]}]}, ['"epochs"', "2^63 - 1"]),
        ({"methods": [{"name": "steer_vec", "learning_rate": float("inf")}]}, ["inf", "finite"]),
    ],
)
def test_mistakes_say_where_and_what_would_be_right(
    changes: dict[Any, object], words: list[str]
) -> None:
    with pytest.raises(UserInputError) as caught:
        parse({**SMALL, **changes}, "my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: ")
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert ".." not in message
    assert "constrained" not in message


def test_of_many_mistakes_the_first_are_named() -> None:
    with pytest.raises(UserInputError) as caught:
        parse({**SMALL, "seeds": [-1] * 1000}, "here")
    assert str(caught.value).count("is -1") == 10
    assert str(caught.value).endswith("equal to 0. And 990 more.")


def test_what_is_no_preset_names_the_nearest_or_the_command_that_runs_it() -> None:
    with pytest.raises(UserInputError, match=r'"quik".*Did you mean "quick"'):
        load_config("quik")
    with pytest.raises(UserInputError, match=r"lists presets.*python -m bench run paper"):
        load_config("paper")


HEAD = "models: [m]\ntasks: [ioi]\nmethods: [dla]\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEAD + "methods: [activ_patch]\n", '"methods" stands in line 3 and again in line 4'),
        (HEAD + "prompts: {train: 2, test: 3, train: 4}\n", '"train" .* line 4 .* line 4'),
        (HEAD + "sizes:\n  big:\n    seeds: [0]\n    seeds: [1]\n", '"seeds" .* 6 .* line 7'),
        (HEAD + "prompts: &a {train: 2}\nsizes: {big: {<<: *a, <<: *a}}\n", '"<<" stands'),
        (HEAD + "sweep: {points: 5, 'points': 7}\n", '"points" stands'),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(
    content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserInputError, match=f"mine.yaml: the key {words}"):
        load_config(tmp_path / "mine.yaml")


def test_what_a_merge_brings_may_be_overridden(tmp_path: Path) -> None:
    text = HEAD + "prompts: &few {train: 2, test: 3}\n"
    text += "sizes: {a: {prompts: {<<: *few, train: 5}}, b: {prompts: {<<: *few}}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    for size, train in (("small", 2), ("a", 5), ("b", 2)):
        (prompts,) = load_config(tmp_path / "mine.yaml", size=size).prompts.each
        assert (prompts.train, prompts.test) == (train, 3)


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


def test_an_unknown_size_and_a_mistake_in_one_are_named(file: Path) -> None:
    with pytest.raises(UserInputError, match=r'no size "papr".*Did you mean "paper".*small'):
        load_config(file, size="papr")
    with pytest.raises(UserInputError, match=r'no key "prompts.trian"'):
        load_config(file, size="broken")


def test_a_path_is_one_beside_the_file(file: Path) -> None:
    (file.parent / "own.jsonl").touch()
    file.write_text("models: [m]\nmethods: [dla]\ntasks: [{name: file, path: own.jsonl}]\n")
    assert load_config(file).tasks[0].settings == {"path": str(file.parent / "own.jsonl")}
    assert load_config(file, tasks=["ioi"]).tasks[0].settings == {}


@pytest.mark.parametrize("sizes", ["[paper]", "{paper: 3}"])
def test_sizes_that_are_no_mappings_are_refused(file: Path, sizes: str) -> None:
    file.write_text(f"{TEXT.partition('sizes:')[0]}sizes: {sizes}\n")
    with pytest.raises(UserInputError, match=r'"sizes" has to be a mapping'):
        load_config(file)
