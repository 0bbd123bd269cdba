"""Country-capital conflict: wording, facts, and what each corruption changes."""

from typing import Any, get_args, get_type_hints

import pytest

from tasks.ccc import CCC, LEFT_OUT, SHIFTED, TEMPLATES, asked_capitals
from tasks.encoding import encode
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


@pytest.mark.parametrize(
    ("template", "length"),
    [
        ("paper", 18),
        ("paper_alt", 18),
        ("stem", 23),
        ("stem_alt", 23),
        ("inline", 12),
        ("reverse", 17),
    ],
)
def test_lengths_in_smollm2_tokens(template: Any, length: int, smollm2_tokenizer: Any) -> None:
    encoded = encode(CCC(template), smollm2_tokenizer, {"train": 8, "test": 16}, None, seed=0)
    assert {batch.n_positions for batch in encoded.batches.values()} == {length}


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
