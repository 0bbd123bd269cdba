"""Facts against counterfacts: what is left out, what is never claimed, what corruptions do."""

from typing import Any, get_args

import pytest

from tasks.fact_conflict import LEFT_OUT, TRUE_TOO, FactConflict, Family, asked_facts
from tasks.facts import facts
from tasks.task import PromptPair

FAMILIES = get_args(Family)


def pairs(task: FactConflict) -> list[PromptPair]:
    return list(task.candidates("train", task.entities(), seed=0))


def test_no_subject_gives_its_object_away_or_is_left_out() -> None:
    assert set(LEFT_OUT) < {subject for family in facts().values() for subject in family}
    for family in FAMILIES:
        for subject, wanted in asked_facts(family).items():
            assert wanted not in subject
            assert subject not in LEFT_OUT


def test_what_is_true_too_is_never_a_counterfact() -> None:
    claimed = {(p.entity, p.foil.strip()) for f in FAMILIES for p in pairs(FactConflict(f))}
    for subject, others in TRUE_TOO.items():
        assert not {(subject, other) for other in others} & claimed
    assert ("Pakistan", "French") in claimed


@pytest.mark.parametrize("family", FAMILIES)
def test_other_subject_has_an_object_of_its_own(family: Any) -> None:
    for pair in pairs(FactConflict(family, "other_subject"))[:50]:
        others = [
            s for s in asked_facts(family) if pair.clean.replace(pair.entity, s) == pair.corrupted
        ]
        assert len(others) == 1
        assert f" {asked_facts(family)[others[0]]}" not in (pair.answer, pair.foil)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_counterfact_is_a_third_object(family: Any) -> None:
    for pair in pairs(FactConflict(family, "other_counterfact"))[:50]:
        others = [
            o
            for o in facts()[family].values()
            if pair.clean.replace(pair.foil, f" {o}") == pair.corrupted
        ]
        assert others
        assert f" {others[0]}" not in (pair.answer, pair.foil)
