"""Country-capital conflict: wording, facts, and what each corruption changes."""

from typing import get_args, get_type_hints

from tasks.ccc import CCC, LEFT_OUT, SHIFTED, TEMPLATES, asked_capitals
from tasks.facts import capitals
from tasks.task import PromptPair

COUNTRIES = ("France", "Italy", "Peru", "Japan", "Cuba")


def pairs(task: CCC, split: str = "train") -> list[PromptPair]:
    return list(task.candidates(split, COUNTRIES, seed=0))


def test_every_template_is_a_choice_and_has_a_shifted_one() -> None:
    assert set(get_args(get_type_hints(CCC)["template"])) == set(TEMPLATES) == set(SHIFTED)
    for name, shifted in SHIFTED.items():
        assert name != shifted
        assert SHIFTED[shifted] == name


def test_no_country_asked_about_is_disputed_or_gives_its_capital_away() -> None:
    assert set(LEFT_OUT) < set(capitals())
    asked = asked_capitals()
    assert not set(LEFT_OUT) & set(asked)
    for telling in ("Tunisia", "Singapore", "Luxembourg", "El Salvador", "Guinea-Bissau", "Mexico"):
        assert telling not in asked
    assert len(set(asked.values())) == len(asked)
    assert asked["France"] == "Paris"


def test_other_country_stands_everywhere_and_its_capital_nowhere() -> None:
    for pair in pairs(CCC(corruption="other_country")):
        others = [name for name in COUNTRIES if name in pair.corrupted]
        assert len(others) == 1
        assert others != [pair.entity]
        assert pair.corrupted == pair.clean.replace(pair.entity, others[0])
        assert capitals()[others[0]] not in pair.corrupted


def test_other_capital_is_a_third_one_in_the_claim() -> None:
    for pair in pairs(CCC(corruption="other_capital")):
        claims = [capitals()[c] for c in COUNTRIES if capitals()[c] in pair.corrupted]
        assert len(claims) == 1
        assert f" {claims[0]}" not in (pair.answer, pair.foil)
        assert pair.corrupted == pair.clean.replace(pair.foil, f" {claims[0]}")


def test_reverse_asks_for_the_country_of_the_capital() -> None:
    for corruption in ("other_country", "other_capital"):
        for pair in pairs(CCC("reverse", corruption)):
            city, claim = capitals()[pair.entity], pair.foil.strip()
            assert pair.answer == f" {pair.entity}"
            assert pair.clean.startswith(f"The city of {city} is in {claim}. The city of {city} is")
            changed = city if corruption == "other_country" else claim
            kept = claim if corruption == "other_country" else city
            assert changed not in pair.corrupted
            assert kept in pair.corrupted
