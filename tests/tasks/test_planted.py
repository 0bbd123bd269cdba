"""Prompts of planted models: each its own, and the counterfactuals change what they say."""

from __future__ import annotations

import pytest

from tasks.errors import UserInputError
from tasks.planted import FAMILIES, LONGEST, SUBJECTS, Layout, Planted, planted_name
from tasks.registry import configure

CASES = [
    (f"planted-{name}-{seed}", counterfactual)
    for name, family in FAMILIES.items()
    for counterfactual in family.counterfactuals
    for seed in (0, 1, 2, 3)
]


@pytest.mark.parametrize(("model", "counterfactual"), CASES)
def test_a_counterfactual_changes_the_words_that_it_names(model: str, counterfactual: str) -> None:
    family, seed = planted_name(model) or ("", 0)
    layout = Layout.of(family, seed)
    task = Planted(model, counterfactual)
    places = FAMILIES[family].counterfactuals[counterfactual]
    changed = {layout.places[place] for place in places}
    assert len(set(layout.places.values())) == len(layout.places)
    assert 8 <= layout.n_positions <= LONGEST
    for pair in list(task.candidates("train", SUBJECTS, 0))[:30]:
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        assert len(clean) == len(corrupted) == layout.n_positions - 1  # the BOS is not written
        apart = {
            at + 1
            for at, words in enumerate(zip(clean, corrupted, strict=True))
            if len({*words}) > 1
        }
        assert apart == changed


def test_a_model_is_asked_what_it_has_prompts_for() -> None:
    assert Planted().asked_of("smollm2-135m") is None
    assert Planted(counterfactual="context").asked_of("planted-lookup-2") is None
    own = Planted(counterfactual="context").asked_of("planted-conflict-2")
    assert own == Planted("planted-conflict-2", "context")


def test_unknown_models_and_counterfactuals_are_named() -> None:
    with pytest.raises(UserInputError, match=r'"planted-lokup" is no planted model; .*planted-ioi'):
        configure(Planted, {"model": "planted-lokup"}, "task")
    with pytest.raises(UserInputError, match=r'counterfactual "contxt".*Did you mean "context"'):
        configure(Planted, {"counterfactual": "contxt"}, "task")
    with pytest.raises(UserInputError, match=r'no counterfactual "context".*subject'):
        configure(Planted, {"model": "planted-lookup", "counterfactual": "context"}, "task")
