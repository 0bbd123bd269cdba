"""Cells: named by what they compute, controls for every untrained method, parents first."""

import json
from collections import Counter
from pathlib import Path

import pytest

from bench.execution.plan import Plan
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.identity import same_content
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import parse
from bench.store.run_record import content_of
from bench.store.upkeep import Survey
from tasks import ccc
from tasks.errors import UserInputError


def matrix(**changes: object) -> Matrix:
    base = {
        "models": ["m"],
        "tasks": ["ioi"],
        "methods": ["activ_patch", "activ_scalar"],
        "controls": {"draws": 2},
    }
    return parse({**base, **changes}, "test")


def cells(digest: str = "d", device: str = "cpu", **changes: object) -> list[PlannedCell]:
    return expand(matrix(**changes), lambda name: digest, lambda setting: device)


def labels(**changes: object) -> list[str]:
    return [cell.method.label for cell in cells(**changes)]


def test_controls_are_drawn_for_every_method_and_stand_behind_it() -> None:
    methods = ["activ_patch", "activ_scalar"]
    random, shuffled = ["random"] * 2, [f"shuffled[of={name}]" for name in methods]
    for controls, expected in (
        ({"draws": 2}, [*methods, *random, *[one for one in shuffled for _ in "ab"]]),
        ({"draws": 2, "shuffles": 1}, [*methods, *random, *shuffled]),
        ({"draws": 2, "shuffle_trained": False}, [*methods, *random, *[shuffled[0]] * 2]),
        ({"draws": 0}, methods),
    ):
        assert labels(controls=controls) == expected
    assert (
        labels(methods=["random", "dla"]) == ["random", "dla", "random"] + ["shuffled[of=dla]"] * 2
    )
    found = cells()
    of_parents = [cell for cell in found if cell.parent]
    assert {cell.parent for cell in of_parents} == {cell.id for cell in found[:2]}
    assert all(cell.settings["parent"] == content_of(str(cell.parent)) for cell in of_parents)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": {"train": 5}},
        {"sites": ["mlp_out"]},
        {"positions": "last"},
        {"positions": [-2]},
        {"objective": {"margin": 0}},
        {"tasks": [{"name": "ioi", "order": "BABA"}]},
        {"rows_per_forward": 8},
        {"seeds": [3]},
        {"models": [{"name": "m", "dtype": "bfloat16"}]},
        {"models": [{"name": "m", "packed": False}]},
        {"digest": "e"},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_whatever_decides_the_numbers_is_part_of_the_id(changes: dict[str, object]) -> None:
    plain = {cell.id for cell in cells()}
    assert not plain & {cell.id for cell in cells(**changes)}  # type: ignore[arg-type]


def test_what_does_not_decide_the_numbers_is_not() -> None:
    plain = [cell.id for cell in cells()]
    for changes in ({"output": "elsewhere"}, {"summary": "words"}, {"agreement": {"resamples": 3}}):
        assert [cell.id for cell in cells(**changes)] == plain
    more = {cell.id for cell in cells(methods=["activ_patch", "activ_scalar", "dla"])}
    assert {*plain} < more
    for one, same in (([-1], "last"), ([2, 1], [1, 2])):
        assert cells(positions=one)[0].id == cells(positions=same)[0].id


def test_the_name_of_a_model_and_the_number_of_a_gpu_are_no_content() -> None:
    ours, theirs = cells(device="cuda:0"), cells(device="cuda:1", models=["elsewhere/m"])
    assert [content_of(cell.id) for cell in ours] == [content_of(cell.id) for cell in theirs]
    assert all(same_content(a.settings, b.settings) for a, b in zip(ours, theirs, strict=True))
    assert not same_content(ours[0].settings, ours[1].settings)


def test_other_data_of_a_task_makes_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {content_of(cell.id) for cell in cells(tasks=["ccc"])}
    monkeypatch.setitem(ccc.TEMPLATES, "stem", ccc.TEMPLATES["stem"] + " now")
    assert not before & {content_of(cell.id) for cell in cells(tasks=["ccc"])}


def test_labels_show_settings_that_are_not_the_default() -> None:
    found = cells(
        tasks=[{"name": "ccc", "template": "paper"}],
        methods=[{"name": "activ_patch", "direction": ["denoising", "noising"]}],
        controls={"draws": 1},
    )
    assert found[0].task.label == "ccc[template=paper]"
    assert [cell.method.label for cell in found] == [
        "activ_patch[direction=denoising]",
        "activ_patch",
        "random",
        "shuffled[of=activ_patch[direction=denoising]]",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["activ_pach"]}, ['no method "activ_pach"', 'mean "activ_patch"']),
        ({"tasks": ["ioy"]}, ['no task "ioy"', 'mean "ioi"']),
        ({"sites": ["atn_out"]}, ['no site "atn_out"', 'mean "attn_out"']),
        ({"tasks": [{"name": "ccc", "template": "sten"}]}, ['"ccc"', '"sten"', 'mean "stem"']),
        (
            {"methods": [{"name": "activ_patch", "directon": "noising"}]},
            ['method "activ_patch"', '"directon"', 'mean "direction"'],
        ),
        (
            {"methods": [{"name": "attr_patch", "corruption": "zero", "direction": "denoising"}]},
            ["denoising", "zero", "counterfactual"],
        ),
        ({"methods": ["dla", "dla"]}, ["dla", "more than once"]),
        ({"seeds": [1, 1]}, ["seeds", "more than once"]),
        ({"models": ["m", "m/"]}, ['models: "m" and "m/" are one model, run in one way']),
        ({"models": ["a/m", "b/m"]}, ['models: "a/m" and "b/m" are one model']),
        ({"objective": {"margin": [0, 0]}}, ["margin", "more than once"]),
        ({"positions": "lst"}, ['no choice "lst"', 'mean "last"']),
        *(
            ({"methods": [{"name": "activ_scalar", **settings}]}, words)
            for settings, words in (
                ({"epochs": []}, ['"epochs" is a list of no values']),
                ({"epochs": [3, 0]}, ['"epochs" is 0, but input should be greater than 0']),
                ({"epochs": [3, 3]}, ["epochs=3", "more than once"]),
                ({"epoch": [3, 4]}, ['no setting "epoch"', 'mean "epochs"']),
            )
        ),
        ({"methods": [{"name": "shuffled", "of": "dla"}]}, ['"dla"', "stand before"]),
    ],
)
def test_mistakes_name_what_would_be_right(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserInputError) as caught:
        cells(**changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_draw_is_a_cell_of_its_own() -> None:
    found = cells(methods=["dla"], controls={"draws": 1_000})
    plan = Plan.of(found, Survey(), RunOptions(), Path())
    assert len(plan.left) == len({cell.id for cell in found}) == 2_001
    assert [cell.method.method.number_of_draw for cell in found[1:1_001]] == list(range(1_000))


GRID = {"margin": [0, 1], "lambda_f": [0, 10], "lambda_m": [0, 1e-3]}


def test_a_list_stands_for_one_cell_a_value_and_lists_for_every_combination() -> None:
    methods = [{"name": "activ_scalar", "learning_rate": [1e-2, 1e-1], "epochs": [1, 2, 3]}]
    found = cells(methods=methods, controls={"draws": 0}, objective=GRID, prompts={"train": [2, 4]})
    assert len({cell.id for cell in found}) == len(found) == 6 * 8 * 2
    assert len({cell.method.label for cell in found}) == 6
    settings = [(*cell.objective.model_dump().values(), cell.prompts.train) for cell in found]
    assert len(set(settings)) == 8 * 2
    for cell in found:
        assert cell.settings["objective"] == cell.objective.model_dump()
        assert cell.settings["prompts"] == cell.prompts.model_dump()
        assert cell.varied == {
            "prompts.train": cell.prompts.train,
            **{f"objective.{name}": getattr(cell.objective, name) for name in GRID},
        }


def test_a_cell_of_a_grid_is_the_cell_of_its_values() -> None:
    alone = cells(objective={"margin": 1, "lambda_f": 10, "lambda_m": 0}, controls={"draws": 0})
    grid = cells(objective=GRID, controls={"draws": 0})
    assert {cell.id for cell in alone} < {cell.id for cell in grid}
    assert alone[0].varied == {}


def test_a_grid_multiplies_untrained_methods_by_what_tunes_them_and_controls_not_at_all() -> None:
    found = cells(objective=GRID, prompts={"train": [2, 4]})
    counts = Counter(cell.method.name for cell in found)
    assert counts == {"activ_patch": 2 * 2 * 2, "activ_scalar": 16, "random": 2, "shuffled": 4}
    ids = {cell.id for cell in found}
    assert {cell.parent for cell in found if cell.parent} < ids


def test_values_varied_alone_leave_all_others_at_their_first() -> None:
    methods = [{"name": "activ_scalar", "learning_rate": [1e-2, 1e-1], "epochs": [1, 2, 3]}]
    prompts = {"train": [2, 4], "seed": [0, 1]}
    found = cells(methods=methods, grid="alone", objective=GRID, prompts=prompts)
    trained = [cell for cell in found if cell.method.name == "activ_scalar"]
    assert len(trained) == 2 * (1 + 1 + 2 + 1 + 1 + 1 + 1)
    assert sum(cell.method.name == "random" for cell in found) == 2 * 2
    for cell in trained:
        settings = cell.settings["method"]
        changed = [settings["learning_rate"] != 1e-2, settings["epochs"] != 1]
        changed += [cell.prompts.train != 2, cell.objective.margin != 0]
        changed += [cell.objective.lambda_f != 0, cell.objective.lambda_m != 0]
        assert sum(changed) <= 1


def test_one_model_run_in_several_ways_has_a_label_for_each() -> None:
    """The default keeps its name and its id; what stands there twice is refused."""
    models = ["m", {"name": "m", "dtype": "bfloat16"}, {"name": "m", "bos": "none"}, "n"]
    found = cells(models=models)
    labels = list(dict.fromkeys(cell.planned.model for cell in found))
    assert labels == ["m", "m[dtype=bfloat16]", "m[bos=none]", "n"]
    (alone,) = {cell.id for cell in cells() if cell.method.name == "activ_patch"}
    assert alone in {cell.id for cell in found}
    assert {cell.model_label for cell in cells(models=[models[1]])} == {"m"}
    chosen, every = (
        Plan.of(found, Survey(), RunOptions(only=(f"model={name}",)), Path()).left
        for name in ("m[dtype=bfloat16]", "m")
    )
    assert {cell.model.dtype for cell in chosen} == {"bfloat16"}
    assert len(every) == 3 * len(chosen)
    with pytest.raises(UserInputError, match=r"models: m\[dtype=bfloat16\] stands there more"):
        cells(models=[models[1], models[1], "m"])


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """As far up as it takes, also beside those that are taken to; one file twice is refused."""
    labels = ["a/one/own.jsonl", "b/one/own.jsonl", "b/two/own.jsonl"]
    for label in labels:
        (tmp_path / label).parent.mkdir(parents=True)
        row = {"clean": label, "corrupted": "x", "answer": " a", "foil": " b"}
        (tmp_path / label).write_text(json.dumps(row))
    paths = [str(tmp_path / label) for label in labels]
    found = cells(tasks=paths)
    assert list(dict.fromkeys(cell.task.label for cell in found)) == labels
    assert len({cell.id for cell in found}) == len(found)
    assert {cell.task.label for cell in cells(tasks=paths[:1])} == {"own.jsonl"}
    (trained,) = (cell for cell in cells(tasks=paths[:1], transfer=paths[1:]) if cell.transfer)
    assert [trained.task.label, *(other.label for other in trained.transfer)] == labels
    with pytest.raises(UserInputError, match=r"tasks: own\.jsonl stands there more than once"):
        cells(tasks=[paths[0], f"{tmp_path}/a/../a/one/own.jsonl"])


def test_models_are_asked_their_own_tasks() -> None:
    both = ["planted", {"name": "planted", "counterfactual": "context"}]
    chosen = {"methods": ["dla"], "controls": {"draws": 0}}
    found = cells(models=["planted-lookup-1", "planted-conflict-2"], tasks=both, **chosen)
    assert [(cell.model.name, cell.task.label) for cell in found] == [
        ("planted-lookup-1", "planted"),
        ("planted-conflict-2", "planted"),
        ("planted-conflict-2", "planted[counterfactual=context]"),
    ]
    assert all(cell.settings["task"]["model"] == cell.model.name for cell in found)
    with pytest.raises(UserInputError, match=r'"planted" asks none of these models: m\.'):
        cells(tasks=["planted", "ioi"])
