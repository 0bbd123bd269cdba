"""What of a pair a model cannot take is named; tokens are shown as they are, and none is empty."""

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.batch import stacked
from tasks.encoding import encode
from tasks.errors import UserInputError
from tasks.ioi import IOI
from tasks.task import PromptPair
from tasks.tokens import Limits, RejectedError, TokenPair, token_pair, token_strings
from tests.tasks.words import BOS, WordTokenizer


def pair(**changes: str) -> PromptPair:
    parts = {"clean": "It is red", "corrupted": "It is blue", "answer": " or", "foil": " and"}
    return PromptPair(**{**parts, **changes}, entity="it")


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2's: every text starts with a space, which decoding leaves away."""
    pieces = ["<s>", "<unk>", "▁", "▁in", "1", "7", "中", "▁the"]
    model = models.WordLevel({piece: at for at, piece in enumerate(pieces)}, unk_token="<unk>")
    tokenizer = FastTokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def test_every_token_is_shown_with_the_start_of_its_word() -> None:
    """The bare start of a word decodes to no text at all alone, and is a token like any other."""
    tokenizer = sentencepiece()
    ids = [0, 2, 3, 4, 6]
    assert tokenizer.decode([2]) == ""
    assert token_strings(tokenizer, ids) == {0: "<s>", 2: " ", 3: " in", 4: "1", 6: "中"}
    batch = stacked("train", [(pair(), TokenPair([2, 4], [2, 5], 3, 7))], tokenizer, 0)
    assert batch.token_strings == (("<s>", " ", "1"),)
    assert batch.aligned(4).lengths.tolist() == [3]


def test_parts_of_a_character_are_told_apart() -> None:
    """Alone they decode to the mark of what cannot be read."""
    tokenizer = FastTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.model = models.BPE({piece: at for at, piece in enumerate(alphabet)}, [])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    ids = fast.encode(" 🎉a", add_special_tokens=False)
    shown = token_strings(fast, ids)
    assert (shown[ids[0]], shown[ids[-1]]) == (" ", "a")
    assert len({*shown.values()}) == len(ids) == 6
    assert "\ufffd" not in shown.values()


def test_what_decodes_to_nothing_is_called_by_its_name_or_id() -> None:
    class Mute(WordTokenizer):
        def decode(self, token_ids: list[int]) -> str:
            return ""

    assert token_strings(Mute(), [7]) == {7: "<7>"}


@pytest.mark.parametrize(("context", "fits"), [(3, False), (4, True), (None, True)])
def test_a_prompt_longer_than_the_context_is_rejected(context: int | None, fits: bool) -> None:
    """Three words and the BOS."""
    limits = Limits(context)
    if fits:
        token_pair(WordTokenizer(), pair(), BOS, limits)
        return
    with pytest.raises(RejectedError, match=r"4 tokens \(BOS included\).*context is 3"):
        token_pair(WordTokenizer(), pair(), BOS, limits)
    token_pair(WordTokenizer(), pair(), None, limits)


@pytest.mark.parametrize("role", ["clean", "corrupted", "answer", "foil"])
def test_a_token_beyond_the_models_embedding_is_rejected(role: str) -> None:
    tokenizer = WordTokenizer()
    known = token_pair(tokenizer, pair())
    limits = Limits(vocabulary=len(tokenizer.vocabulary))
    assert token_pair(tokenizer, pair(), BOS, limits) == known
    own = {"clean": "It is mauve", "corrupted": "It is mauve"}.get(role, " mauve")
    with pytest.raises(RejectedError, match=rf"' mauve' has the id {limits.vocabulary}, and the"):
        token_pair(tokenizer, pair(**{role: own}), BOS, limits)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"answer": " mauve"}, "the answer"),
        ({"foil": " mauve"}, "the foil"),
        ({"clean": "It is mauve"}, "a word in which clean and corrupted prompt differ"),
        ({"corrupted": "It is mauve"}, "a word in which clean and corrupted prompt differ"),
    ],
)
def test_what_the_tokenizer_does_not_know_is_rejected(changes: dict[str, str], named: str) -> None:
    """It would be the token that stands for every unknown word."""

    class Lacking(WordTokenizer):
        unk_token, unk_token_id = "<unk>", 99

        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            found = super().encode(text, add_special_tokens=add_special_tokens)
            return [99 if self.decode([token]).strip() == "mauve" else token for token in found]

    token_pair(Lacking(), pair())
    both = {"clean": "mauve is red", "corrupted": "mauve is blue"}
    token_pair(Lacking(), pair(**both))
    with pytest.raises(RejectedError, match=f"^the tokenizer does not know {named}$"):
        token_pair(Lacking(), pair(**changes))


def test_rows_that_are_too_long_are_dropped_and_counted() -> None:
    """Of ioi's prompts, all of which have twelve tokens."""
    encode(IOI(), WordTokenizer(), {"train": 2}, BOS, 0, limits=Limits(12))
    with pytest.raises(UserInputError, match=r"12 tokens \(BOS included\).*context is 11 \(217\)"):
        encode(IOI(), WordTokenizer(), {"train": 2}, BOS, 0, limits=Limits(11))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clean": "It is ", "corrupted": "It was "}, "ends in a space, which belongs to the a"),
        ({"answer": "or"}, "would be one with a leading space"),
        ({"foil": " and "}, "the foil is not one token, but would be"),
        ({"answer": " or and"}, "the answer is not one token$"),
    ],
)
def test_a_space_in_the_wrong_place_is_named(changes: dict[str, str], named: str) -> None:
    """By a tokenizer that takes a space and the word behind it as one token, and no space alone."""

    class Strict(WordTokenizer):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            found = super().encode(text, add_special_tokens=add_special_tokens)
            return [*found, 99] if text.endswith(" ") or "is" + "or" in text else found

    with pytest.raises(RejectedError, match=named):
        token_pair(Strict(), pair(**changes))
