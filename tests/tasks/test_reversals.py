"""What is particular to the small tasks: balance, and corruptions that reverse the task."""

import re
from collections import Counter
from typing import Any

import pytest

from tasks.antonym import ANTONYMS, Antonym
from tasks.arithmetic import Arithmetic
from tasks.capital import Capital
from tasks.ccc import CCC
from tasks.docstring import NOUNS, PARAMETERS, TEMPLATE, Docstring
from tasks.encoding import encode
from tasks.facts import names_by_gender
from tasks.gender import Gender
from tasks.greater_than import GreaterThan
from tasks.induction import Induction
from tasks.ioi import IOI
from tasks.sentiment import Sentiment
from tasks.subject_verb_agreement import SubjectVerbAgreement
from tasks.succession import RETURNING, SERIES, Succession
from tasks.task import PromptPair, Task


def pairs(task: Task, split: str = "train") -> list[PromptPair]:
    return list(task.candidates(split, task.entities(), seed=0))


@pytest.mark.parametrize("task", [Gender(), Sentiment(), SubjectVerbAgreement()])
def test_two_answers_are_balanced_within_the_first_prompts(task: Task) -> None:
    for n in (4, 12, 40):
        counts = Counter(pair.answer for pair in pairs(task)[:n])
        assert len(counts) == 2
        assert set(counts.values()) == {n // 2}


@pytest.mark.parametrize(
    "task", [Capital(), Antonym(), Docstring(), Induction(), Gender(), Sentiment(), Succession()]
)
@pytest.mark.parametrize("split", ["train", "shifted"])
def test_the_corrupted_prompt_is_the_clean_prompt_of_the_foil(task: Task, split: str) -> None:
    """Of the reversed question, asked with the same words, the answer is the foil."""
    asked = {pair.clean: pair.answer for pair in pairs(task, split)}
    reversed_ = [pair for pair in pairs(task, split) if pair.corrupted in asked]
    for pair in reversed_:
        assert asked[pair.corrupted] == pair.foil
    if isinstance(task, Capital | Succession):
        assert len(reversed_) == len(pairs(task, split))


def test_gender_swaps_the_name_for_one_of_the_other_gender() -> None:
    names = names_by_gender()
    for pair in pairs(Gender())[:400]:
        (other,) = [n for n in Gender().entities() if f"So {n} is" in pair.corrupted]
        own = "male" if pair.answer == " he" else "female"
        assert pair.entity in names[own]
        assert other not in names[own]
        assert pair.corrupted == pair.clean.replace(f"So {pair.entity} is", f"So {other} is")


def test_agreement_changes_the_number_of_the_subject_alone() -> None:
    for pair in pairs(SubjectVerbAgreement())[:300]:
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        assert [i for i in range(len(clean)) if clean[i] != corrupted[i]] == [4]
        assert (clean[4] == pair.entity) == (pair.answer == " is")
    nouns = Counter(pair.clean.split()[-1].endswith("s") for pair in pairs(SubjectVerbAgreement()))
    assert 0.4 < nouns[True] / nouns.total() < 0.6


def test_the_answer_is_later_and_the_foil_earlier_and_both_may_follow_the_corrupted_year() -> None:
    for pair in pairs(GreaterThan()):
        year = re.findall(r"year (\d{4})", pair.clean)[0]
        assert year == pair.entity
        assert int(pair.foil) < int(year[2]) < int(pair.answer)
        assert re.findall(r"year (\d{4})", pair.corrupted) == ["1701"]


def test_succession_goes_on_where_the_run_ends() -> None:
    assert len(Succession().entities()) == 22 + 7 + 12 + 16
    for pair in pairs(Succession()):
        run = pair.clean.rstrip(",").split(", ")
        (members,) = [m for m in SERIES.values() if run[0] in m]
        circle = members * 2 if members in [SERIES[kind] for kind in RETURNING] else members
        start = circle.index(run[0])
        assert list(circle[start : start + 5]) == [*run, pair.answer.strip()]
        assert pair.foil.strip() in members
    assert pairs(Succession(), "shifted")[0].clean.startswith("Here: ")


def test_opposites_are_asked_either_way_and_no_word_is_in_two_pairs() -> None:
    words = [*ANTONYMS, *ANTONYMS.values()]
    assert len(set(words)) == len(words)
    found = pairs(Antonym())
    assert {pair.answer.strip() in ANTONYMS for pair in found} == {True, False}
    for pair in found[:200]:
        assert ANTONYMS.get(pair.foil.strip(), "") == pair.answer.strip() or (
            ANTONYMS[pair.answer.strip()] == pair.foil.strip()
        )
        assert pair.corrupted == pair.clean[: -len(f"{pair.foil} is")] + f"{pair.answer} is"


def test_docstring_swaps_the_last_two_parameters() -> None:
    assert not {name for name in PARAMETERS if name in TEMPLATE.split()} | set(NOUNS) & set(
        PARAMETERS
    )
    for pair in pairs(Docstring())[:200]:
        answer, foil = pair.answer.strip(), pair.foil.strip()
        assert f", {foil}, {answer}):" in pair.clean
        assert f"param {foil}:" in pair.clean
        assert f"param {answer}:" not in pair.clean
        held = pair.clean.replace(f" {foil}", " <foil>").replace(f" {answer}", f" {foil}")
        assert pair.corrupted == held.replace(" <foil>", f" {answer}")


@pytest.mark.parametrize("split", ["train", "shifted"])
def test_induction_repeats_what_stood_before_the_answer(split: str) -> None:
    for pair in pairs(Induction(), split)[:300]:
        words, other = pair.clean.split()[1:], pair.corrupted.split()[1:]
        assert words[:5] == words[5:10]
        assert len(set(words[:5])) == 5
        start = words.index(words[-2])
        assert words[start : start + 2] == words[-2:]
        assert words[start + 2] == pair.answer.strip()
        assert other[start + 2] == pair.foil.strip()
        assert other[-2:] == words[-2:]
        assert sorted(other) == sorted(words)


def test_arithmetic_is_right_and_its_example_too() -> None:
    found = pairs(Arithmetic())
    for pair in found:
        example, question = pair.clean.split("\n")
        one, two, total = map(int, re.findall(r"\d", example))
        assert one + two == total
        assert sum(map(int, re.findall(r"\d", question))) == int(pair.answer) <= 9
        assert sum(map(int, re.findall(r"\d", pair.corrupted.split("\n")[1]))) == int(pair.foil)
    assert any(pair.clean.split("\n")[1][0] > pair.clean.split("\n")[1][4] for pair in found)


LENGTHS = {
    Capital(): 16, Gender(): 10, Sentiment(): 16, SubjectVerbAgreement(): 8, GreaterThan(): 17,
    Succession(): 8, Antonym(): 19, Docstring(): 34, Induction(): 14, Arithmetic(): 14, IOI(): 11,
    IOI(order="BABA"): 11, CCC("paper"): 18, CCC("paper_alt"): 18, CCC("stem"): 23,
    CCC("stem_alt"): 23, CCC("inline"): 12, CCC("reverse"): 17,
}  # fmt: skip


def test_lengths_in_smollm2_tokens_and_enough_prompts(smollm2_tokenizer: Any) -> None:
    for task, length in LENGTHS.items():
        encoded = encode(task, smollm2_tokenizer, {"train": 32, "test": 32, "shifted": 32}, None, 0)
        assert {batch.n_positions for batch in encoded.batches.values()} == {length}, task
        assert not isinstance(task, IOI) or not encoded.dropped
