"""Cells: named by what they compute, controls for every untrained method, parents first."""

import pytest

from bench.cells import PlannedCell, expand
from bench.config import Matrix, parse
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


def test_controls_are_drawn_for_untrained_methods_only() -> None:
    labels = [cell.method.label for cell in cells()]
    assert (
        labels
        == ["activ_patch", "activ_scalar"] + ["random"] * 2 + ["shuffled[of=activ_patch]"] * 2
    )
    assert [cell.method.label for cell in cells(controls={"draws": 0})] == labels[:2]


def test_a_parent_stands_before_what_starts_from_it() -> None:
    found = cells()
    shuffled = [cell for cell in found if cell.parent]
    assert {cell.parent for cell in shuffled} == {found[0].id}
    assert all(cell.settings["parent"] == found[0].id for cell in shuffled)


def test_ids_are_unique_and_stable() -> None:
    found = [cell.id for cell in cells(seeds=[0, 1], tasks=["ioi", "ccc"])]
    assert len(set(found)) == len(found) == 2 * 2 * 6
    assert found == [cell.id for cell in cells(seeds=[0, 1], tasks=["ioi", "ccc"])]


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": {"train": 5}},
        {"sites": ["mlp_out"]},
        {"positions": "last"},
        {"objective": {"margin": 0}},
        {"tasks": [{"name": "ioi", "order": "BABA"}]},
        {"rows_per_forward": 8},
        {"seeds": [3]},
        {"models": [{"name": "m", "dtype": "bfloat16"}]},
        {"models": [{"name": "m", "packed": False}]},
        {"digest": "e"},
        {"device": "cuda"},
    ],
)
def test_whatever_decides_the_numbers_is_part_of_the_id(changes: dict[str, object]) -> None:
    plain = {cell.id for cell in cells()}
    assert not plain & {cell.id for cell in cells(**changes)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [{"output": "elsewhere"}, {"summary": "words"}, {"agreement": {"resamples": 3}}],
)
def test_what_does_not_decide_the_numbers_is_not(changes: dict[str, object]) -> None:
    assert [cell.id for cell in cells()] == [cell.id for cell in cells(**changes)]


def test_adding_a_method_leaves_the_others_as_they_are() -> None:
    more = {cell.id for cell in cells(methods=["activ_patch", "activ_scalar", "dla"])}
    assert {cell.id for cell in cells()} < more


def test_labels_show_settings_that_are_not_the_default() -> None:
    found = cells(
        tasks=[{"name": "ccc", "template": "paper"}],
        methods=[{"name": "activ_patch", "direction": "denoising"}],
        controls={"draws": 1},
    )
    assert found[0].task.label == "ccc[template=paper]"
    assert [cell.method.label for cell in found] == [
        "activ_patch[direction=denoising]",
        "random",
        "shuffled[of=activ_patch[direction=denoising]]",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["activ_pach"]}, ['no method "activ_pach"', 'mean "activ_patch"']),
        ({"tasks": ["ioy"]}, ['no task "ioy"', 'mean "ioi"']),
        ({"sites": ["atn_out"]}, ['no site "atn_out"', 'mean "attn_out"']),
        (
            {"tasks": [{"name": "ccc", "template": "sten"}]},
            ['task "ccc"', '"sten"', 'mean "stem"'],
        ),
        (
            {"methods": [{"name": "activ_patch", "directon": "noising"}]},
            ['method "activ_patch"', '"directon"', 'mean "direction"'],
        ),
        ({"methods": [{"name": "activ_scalar", "epochs": 0}]}, ["epochs", "greater than 0"]),
        (
            {"methods": [{"name": "attr_patch", "corruption": "zero", "direction": "denoising"}]},
            ["denoising", "zero", "counterfactual"],
        ),
        ({"methods": ["dla", "dla"]}, ["dla", "more than once"]),
        ({"seeds": [1, 1]}, ["seeds", "more than once"]),
        ({"methods": [{"name": "shuffled", "of": "dla"}]}, ['"dla"', "stand before"]),
    ],
)
def test_mistakes_name_what_would_be_right(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserInputError) as caught:
        cells(**changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_controls_that_are_listed_are_not_made_twice() -> None:
    labels = [cell.method.label for cell in cells(methods=["random", "dla"])]
    assert labels == ["random", "dla", "random"] + ["shuffled[of=dla]"] * 2


def test_an_unknown_word_for_positions_names_the_nearest() -> None:
    with pytest.raises(UserInputError, match=r'no choice "lst".*Did you mean "last"'):
        cells(positions="lst")
