"""The checks on tokens, each made to fail with a tokenizer written for it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bench.models.tokenizer import bos_of
from tasks.batch import PADDING
from tasks.build import build_task
from tasks.ccc import CCC, asked_capitals
from tasks.encoding import encode
from tasks.errors import UserInputError
from tasks.ioi import IOI
from tasks.task import PromptPair
from tests.tasks.words import BOS, WordTokenizer

SIZES = {"train": 4, "test": 6, "shifted": 6}
# Countries that are one word, and their capital too: the others fail this tokenizer's checks.
ONE_WORD = [c for c, capital in asked_capitals().items() if " " not in c + capital]


LONGER = "a prompt is not 23 tokens long, as most train prompts are"


@dataclass(frozen=True)
class Colours:
    """A task of one pair for every colour, with a part of each pair replaced on request."""

    colours: tuple[str, ...] = ("red", "green", "blue", "white", "black", "pink")
    replaced: tuple[tuple[str, str], ...] = ()
    name: ClassVar[str] = "colours"

    def entities(self) -> Sequence[str]:
        return self.colours

    def probe(self, split: str, entity: str) -> PromptPair:
        return PromptPair(f"It is {entity}", f"It is {entity}", f" {entity}", f" {entity}", entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        for colour in entities:
            pair = replace(self.probe(split, colour), corrupted="It is none", foil=" none")
            yield replace(pair, **dict(self.replaced))


@pytest.mark.parametrize(
    ("adds_bos", "bos_id", "n_bos"), [(False, BOS, 1), (True, BOS, 1), (False, None, 0)]
)
def test_bos_stands_in_front_once_or_not_at_all(
    adds_bos: bool, bos_id: int | None, n_bos: int
) -> None:
    tokenizer = WordTokenizer(adds_bos=adds_bos)
    batch = encode(IOI(), tokenizer, {"train": 3}, bos_id, seed=0).batches["train"]
    assert ((batch.tokens == BOS).sum(axis=1) == n_bos).all()
    assert ((batch.corrupted == BOS).sum(axis=1) == n_bos).all()
    assert (batch.tokens[:, :n_bos] == BOS).all()
    assert batch.n_positions == 11 + n_bos
    assert batch.has_bos == (bos_id is not None)


@pytest.mark.parametrize(
    ("tokenizer", "reason", "more"),
    [
        # Of France, Italy and Peru; one that changes the prompt is not one token either.
        ({"halved": {"Paris", "Rome", "Lima"}}, "the answer is not one token", 3),
        ({"glued": {"Paris"}}, "the answer is not one token", 1),
        (
            {"halved": {"France", "Peru"}},
            "a prompt is not 23 tokens long, as most train prompts are",
            2,
        ),
    ],
)
def test_entities_that_a_tokenizer_cannot_take_are_dropped_and_counted(
    tokenizer: dict[str, set[str]], reason: str, more: int
) -> None:
    encoded = encode(CCC(), WordTokenizer(**tokenizer), SIZES, BOS, seed=0)
    whole = encode(CCC(), WordTokenizer(), SIZES, BOS, seed=0)
    assert encoded.dropped[f"entity: {reason}"] == whole.dropped[f"entity: {reason}"] + more
    shown = str([batch.pairs for batch in encoded.batches.values()])
    assert not any(word in shown for words in tokenizer.values() for word in words)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_one_prompt_in_tokens_is_drawn_once(seed: int) -> None:
    """Capitals and accents that a tokenizer does not keep put no prompt of train into test."""

    class Uncased(WordTokenizer):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            return super().encode(text.lower(), add_special_tokens=add_special_tokens)

    colours = [way(colour) for colour in Colours.colours for way in (str, str.title, str.upper)]
    task, sizes = Colours(tuple(colours)), {"train": 2, "test": 99}
    encoded = encode(task, Uncased(), sizes, BOS, seed, at_most=True)
    drawn = [tuple(row) for batch in encoded.batches.values() for row in batch.tokens.tolist()]
    assert len({*drawn}) == len(drawn)
    assert any("in train" in why for why in encoded.dropped)


@pytest.mark.parametrize("there", [True, False])
def test_a_word_without_a_token_is_dropped_and_counted(there: bool) -> None:
    """A tokenizer need not say which token its model has for such words, or has none and raises."""
    words = ["It", "is", "none", *Colours.colours[:-1], *(["<unk>"] if there else [])]
    fast = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast)
    bos_id, _ = bos_of(tokenizer)
    encoded = encode(Colours(), tokenizer, {"train": 9, "test": 9}, bos_id, 0, at_most=True)
    assert sum(len(batch) for batch in encoded.batches.values()) == len(Colours.colours) - 1
    ((why, count),) = encoded.dropped.items()
    assert count == 1
    assert ("does not know the answer" if there else "cannot read it (WordLevel error") in why


def test_the_most_frequent_length_is_kept() -> None:
    """Where most names take two tokens, it is the others that go: three names, 26 tokens."""
    encoded = encode(CCC(), WordTokenizer(halved=ONE_WORD), SIZES, BOS, seed=0)
    assert encoded.batches["train"].n_positions == 27


@dataclass(frozen=True)
class Repeated:
    """A task of prompts of one to six words."""

    lengths: str = "several"
    name: ClassVar[str] = "repeated"

    def entities(self) -> Sequence[str]:
        return tuple("abcdef")

    def probe(self, split: str, entity: str) -> PromptPair:
        words = " ".join(["so"] * (ord(entity) - ord("a")) + [entity])
        return PromptPair(words, words.replace(entity, "so"), " yes", " no", entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        return (self.probe(split, entity) for entity in entities)


def test_splits_of_several_lengths_end_at_the_same_position() -> None:
    sizes = {"train": 3, "test": 3, "shifted": 3}
    seen = set()
    for seed in range(6):
        encoded = encode(Repeated(), WordTokenizer(), sizes, BOS, seed=seed)
        assert encoded.lengths == (2, 3, 4, 5, 6, 7)
        for split, batch in encoded.batches.items():
            assert batch.tokens.shape == batch.corrupted.shape == (3, 7)
            seen.add((split, int(batch.lengths.max())))
            for row, length in enumerate(batch.lengths):
                assert batch.tokens[row, -length] == batch.corrupted[row, -length] == BOS
                assert (batch.tokens[row, :-length] == PADDING).all()
                assert (batch.corrupted[row, :-length] == PADDING).all()
                assert "".join(batch.token_strings[row]) == "<bos>" + batch.pairs[row].clean
    assert ("train", 7) in seen
    assert ("test", 7) in seen
    with pytest.raises(UserInputError, match=r"a prompt is not 1 tokens long"):
        encode(Repeated(lengths="one"), WordTokenizer(), sizes, BOS, seed=0)


def test_at_most_gives_what_there_is_but_not_nothing() -> None:
    sizes = {"train": 2, "test": 40}
    encoded = encode(Colours(), WordTokenizer(), sizes, BOS, seed=0, at_most=True)
    assert {split: len(batch) for split, batch in encoded.batches.items()} == {
        "train": 2,
        "test": 3,
    }
    tokenizer = WordTokenizer(halved={"none"})
    with pytest.raises(UserInputError, match="only 0 are available"):
        encode(Colours(), tokenizer, sizes, BOS, seed=0, at_most=True)


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"corrupted": "It is not here"}, "clean and corrupted prompt differ in length"),
        ({"answer": " two words"}, "the answer is not one token"),
        ({"foil": " two words"}, "the foil is not one token"),
        ({"clean": "It is so so", "corrupted": "It is no so"}, "the clean prompt is not 3 tokens"),
        ({"answer": " none"}, "answer and foil are the same token"),
        ({"clean": "It is none"}, "clean and corrupted prompt are the same tokens"),
    ],
)
def test_a_split_left_empty_is_an_error_that_says_why(
    replaced: dict[str, str], reason: str
) -> None:
    task = Colours(replaced=tuple(replaced.items()))
    message = (
        'Task "colours": the split "train" was to have 2 prompts, but only 0 are available over '
        rf"its 3 entities with this tokenizer\. Dropped: pair: {reason}.* \(3\)\. Ask for fewer"
    )
    with pytest.raises(UserInputError, match=message):
        encode(task, WordTokenizer(), {"train": 2}, None, seed=0)


def test_one_entity_alone_is_named_as_what_cannot_be_divided(tmp_path: Path) -> None:
    """As rows are that all have one corrupted prompt; nothing is wrong with any of them."""
    row = '{{"clean": "The {0} is", "corrupted": "The one is", "answer": " a", "foil": " b"{1}}}\n'
    path = tmp_path / "rows.jsonl"
    for split, fits in (("", False), (', "split": "{}"', True)):
        places = enumerate(["sky", "sea", "sun", "ice"])
        named = [(word, split.format(("train", "test")[at % 2])) for at, word in places]
        path.write_text("".join(row.format(*one) for one in named))
        task = build_task(str(path), {})[1]
        with nullcontext() if fits else pytest.raises(UserInputError, match=r"one entity.*\(split"):
            encode(task, WordTokenizer(), {"train": 2, "test": 2}, BOS, seed=0)


def test_an_unlike_shifted_template_is_an_error_only_where_it_is_asked_for() -> None:
    tokenizer = WordTokenizer(halved={"Name"})
    with pytest.raises(UserInputError, match="entity: a prompt is not 23 tokens long"):
        encode(CCC(), tokenizer, SIZES, BOS, seed=0)
    encoded = encode(CCC(), tokenizer, {"train": 4, "test": 4, "shifted": 0}, BOS, seed=0)
    assert list(encoded.batches) == ["train", "test"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 1, "tst": 2}, 'there is no split "tst". Did you mean "test"?'),
        ({"train": -1}, 'the split "train" cannot have -1 prompts'),
        ({"train": 2.5}, 'the split "train" cannot have 2.5 prompts'),
        ({"train": True}, 'the split "train" cannot have True prompts'),
        ({"train": 0, "test": 3}, 'the split "train" needs at least 1 prompt'),
        ({"test": 3}, 'the split "train" needs at least 1 prompt'),
    ],
)
def test_sizes_that_are_not_sizes(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserInputError, match=re.escape(message)):
        encode(Colours(), WordTokenizer(), sizes, None, seed=0)


@settings(max_examples=20)
@given(
    seed=st.integers(-(2**40), 2**40),
    sizes=st.tuples(st.integers(1, 12), st.integers(0, 12), st.integers(0, 12)),
    task=st.sampled_from([CCC(), CCC("paper", "other_capital"), IOI("BABA", "fresh_names")]),
    dull=st.sets(st.sampled_from(ONE_WORD), max_size=8),
)
def test_every_draw_is_valid_and_repeatable(
    seed: int, sizes: tuple[int, int, int], task: CCC | IOI, dull: set[str]
) -> None:
    wanted = dict(zip(("train", "test", "shifted"), sizes, strict=True))
    encoded, again = (
        encode(task, WordTokenizer(halved=sorted(dull)), wanted, BOS, seed) for _ in range(2)
    )
    assert encoded.dropped == again.dropped
    assert {split: size for split, size in wanted.items() if size} == {
        split: len(batch) for split, batch in encoded.batches.items()
    }
    assert len({batch.n_positions for batch in encoded.batches.values()}) == 1
    for split, batch in encoded.batches.items():
        assert batch.pairs == again.batches[split].pairs
        np.testing.assert_array_equal(batch.tokens, again.batches[split].tokens)
        np.testing.assert_array_equal(batch.corrupted, again.batches[split].corrupted)
        assert (batch.answers != batch.foils).all()
        assert len({pair.clean for pair in batch.pairs}) == len(batch)
    trained_on = set(encoded.batches["train"].answers) | set(encoded.batches["train"].foils)
    for split in set(encoded.batches) - {"train"}:
        batch = encoded.batches[split]
        assert trained_on.isdisjoint(batch.answers)
        assert trained_on.isdisjoint(batch.foils)
