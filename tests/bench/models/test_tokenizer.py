"""The one token in front of every prompt: by rule, by the tokenizer itself, or as it is stated."""

from pathlib import Path
from typing import Any

import pytest

from bench.execution.run import run_matrix
from bench.models.load import MODELS, LoadedModel, load_model, stated_of
from bench.models.tiny import BOS, tiny_tokenizer
from bench.models.tokenizer import bos_of
from bench.store.run_record import content_of
from tasks.errors import UserInputError
from tests.small import brief_matrix


def test_bos_rules() -> None:
    tokenizer = tiny_tokenizer(["a <|im_start|>"])
    assert bos_of(tokenizer) == (0, "tokenizer.bos_token")
    assert bos_of(tokenizer, " w9") == (
        tokenizer.convert_tokens_to_ids(" w9"),
        "stated for this model",
    )
    tokenizer.bos_token = None
    assert bos_of(tokenizer) == (0, "tokenizer.eos_token")
    tokenizer.eos_token = None
    assert bos_of(tokenizer) == (None, "the tokenizer has none")
    tokenizer.bos_token = "<|im_start|>"
    assert bos_of(tokenizer) == (0, "end of text")


def test_a_tokenizer_that_adds_its_own_bos_keeps_it() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer(["a <|im_start|>"], size=8)
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    five, six, turn = (*tokenizer.convert_ids_to_tokens([5, 6]), "<|im_start|>")

    def puts(*tokens: str) -> None:
        named = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (five, six, turn)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*tokens, "$A", turn], special_tokens=named
        )

    for tokens in ((five,), (five, five)):
        puts(*tokens)
        assert bos_of(tokenizer) == (5, "the tokenizer adds it")
        assert bos_of(tokenizer, BOS) == (0, "stated for this model")
        assert bos_of(tokenizer, "None") == (None, "stated: none")
    puts(turn)  # as TransformerLens has a tokenizer of chats do
    assert bos_of(tokenizer) == (0, "end of text")
    puts(five, six)
    assert bos_of(tokenizer, six) == (6, "stated for this model")
    with pytest.raises(UserInputError, match=f'"mine".*several tokens.*{five} {six}.*"none"'):
        bos_of(tokenizer, None, "mine")


def test_a_bos_that_the_tokenizer_lacks_is_refused() -> None:
    with pytest.raises(UserInputError, match=r'"mine".*"<bos>".*no token.*<\|endoftext\|>'):
        bos_of(tiny_tokenizer(["a"]), "<bos>", "mine")


def test_what_the_suites_own_models_are_called_states_nothing(
    smollm2_tokenizer: Any, gpt2_tokenizer: Any
) -> None:
    """So cells of a model by name and of the same files by path are the same."""
    assert not any(stated_of(name) for name in MODELS)
    assert bos_of(smollm2_tokenizer) == (0, "end of text")
    assert bos_of(gpt2_tokenizer) == (50256, "tokenizer.bos_token")


@pytest.mark.parametrize(
    "turn",
    ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "[|endofturn|]", "<|return|>"],
)
@pytest.mark.parametrize("role", ["bos_token", "eos_token"])
def test_a_token_of_chats_never_stands_in_front(turn: str, role: str) -> None:
    """Qwen-Instruct has no BOS, and ends on <|im_end|>: what separated documents is taken."""
    for separator in ("<|endoftext|>", "<|end_of_text|>", ""):
        tokenizer = tiny_tokenizer(["a"])
        tokenizer.bos_token = tokenizer.eos_token = None
        setattr(tokenizer, role, turn)
        known = {turn: 3, separator: 7}
        tokenizer.get_vocab = lambda known=known: known
        assert bos_of(tokenizer)[0] == (7 if separator else None)


def test_words_of_chats_within_other_names_are_no_chat() -> None:
    for token in ("<s>", "</s>", "<|endoftext|>", "<\uff5cbegin\u2581of\u2581sentence\uff5c>"):
        tokenizer = tiny_tokenizer(["a"])
        tokenizer.bos_token = token
        assert bos_of(tokenizer)[1] == "tokenizer.bos_token"


def test_a_matrix_says_which_bos_or_none(
    tiny: LoadedModel, tiny_folder: Path, tmp_path: Path
) -> None:
    """A key of a model, and a part of what the cell is: other numbers under another id."""
    here = {"name": str(tiny_folder), "device": "cpu"}
    models = [here, {**here, "bos": "none"}, {**here, "bos": " the"}]
    matrix = brief_matrix(
        tiny_folder, models=models, methods=["grad_scalar"], controls={"draws": 0}
    )
    outcome = run_matrix(matrix, tmp_path / "run")
    assert len({content_of(cell) for cell in outcome.computed}) == 3
    records = [outcome.store.record(cell) for cell in outcome.computed]
    assert [one.settings["model"].get("bos") for one in records] == [None, "none", " the"]
    bos, none, the = (one.prompts["train"][0].token_ids for one in records)
    assert (bos[0], the[0]) == (0, tiny.tokenizer.convert_tokens_to_ids(" the"))
    assert bos[1:] == none == the[1:]
    with pytest.raises(UserInputError, match='"none" puts none'):
        load_model(str(tiny_folder), device="cpu", bos="<bos>")
