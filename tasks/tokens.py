"""A pair of prompts in the tokens of one model: the rules that need no other pair."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.task import PromptPair


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of Hugging Face have it."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> str: ...


@dataclass(frozen=True)
class TokenPair:
    """One pair in token ids, without BOS."""

    clean: list[int]
    corrupted: list[int]
    answer: int
    foil: int


@dataclass(frozen=True)
class Limits:
    """What a model takes, where that is known."""

    context: int | None = None
    """Tokens of a prompt, BOS included."""
    vocabulary: int | None = None
    """Tokens that it has an embedding for: ids lie below."""


NO_LIMITS = Limits()


class RejectedError(Exception):
    """A pair that breaks a rule on tokens; the message is the reason that is counted."""


def token_pair(
    tokenizer: Tokenizer,
    pair: PromptPair,
    bos_id: int | None = None,
    limits: Limits = Limits(),
) -> TokenPair:
    """Tokenise a pair, or raise `RejectedError` if it breaks a rule that needs no other pair."""
    clean = tokenizer.encode(pair.clean, add_special_tokens=False)
    corrupted = tokenizer.encode(pair.corrupted, add_special_tokens=False)
    if len(clean) != len(corrupted):
        raise RejectedError("clean and corrupted prompt differ in length")
    word, unknown = _unknown(tokenizer)
    if not (word and word in pair.clean + pair.corrupted) and any(
        one != other and unknown in (one, other)
        for one, other in zip(clean, corrupted, strict=True)
    ):
        raise RejectedError(
            "the tokenizer does not know a word in which clean and corrupted prompt differ"
        )
    length = len(behind_bos(clean, bos_id))
    if limits.context is not None and length > limits.context:
        raise RejectedError(
            f"a prompt has {length} tokens (BOS included), and the model's context is "
            f"{limits.context}"
        )
    # After both prompts: the logit difference of the corrupted run reads the same two tokens.
    continuations = {}
    for role, text in (("answer", pair.answer), ("foil", pair.foil)):
        tokens = {_continuation(tokenizer, pair.clean, clean, text)}
        tokens.add(_continuation(tokenizer, pair.corrupted, corrupted, text))
        token = tokens.pop()
        if tokens or token is None:
            raise RejectedError(f"the {role} is not one token{_of_space(tokenizer, pair, text)}")
        if token == unknown:
            raise RejectedError(f"the tokenizer does not know the {role}")
        continuations[role] = token
    answer, foil = continuations["answer"], continuations["foil"]
    beyond = max((*clean, *corrupted, answer, foil), default=0)
    if limits.vocabulary is not None and beyond >= limits.vocabulary:
        raise RejectedError(
            f"the tokenizer's token {token_strings(tokenizer, [beyond])[beyond]!r} has the id "
            f"{beyond}, and the model has {limits.vocabulary} tokens"
        )
    return TokenPair(clean, corrupted, answer, foil)


def _unknown(tokenizer: Tokenizer) -> tuple[str | None, int | None]:
    """The token that stands for unknown words and its id, also where its model alone names it."""
    word, token = (getattr(tokenizer, name, None) for name in ("unk_token", "unk_token_id"))
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if word is None and (word := getattr(getattr(backend, "model", None), "unk_token", None)):
        token = backend.token_to_id(word)
    return word, token


def behind_bos(tokens: list[int], bos_id: int | None) -> list[int]:
    """Return a prompt's ids with the BOS in front, if there is one.

    Some tokenizers put one in front even when asked for no special tokens: never two.
    """
    return tokens if bos_id is None or tokens[:1] == [bos_id] else [bos_id, *tokens]


def token_strings(tokenizer: Tokenizer, ids: Iterable[int]) -> dict[int, str]:
    """Return what a reader is shown for token ids, never "".

    The start of a word is a space, also of a tokenizer that leaves it away in front of a text
    (SentencePiece, where the bare start of a word would be no text at all): so a token is what it
    adds behind itself. A part of a character, of which several tokens are one, is called as the
    tokenizer calls it.
    """
    found = {}
    for token in {int(token) for token in ids}:
        alone, twice = tokenizer.decode([token]), tokenizer.decode([token, token])
        text = twice.removeprefix(alone) if twice.startswith(alone) else alone
        text = text or alone
        broken = not text or "\N{REPLACEMENT CHARACTER}" in text
        found[token] = _piece(tokenizer, token) if broken else text
    return found


def _piece(tokenizer: Tokenizer, token: int) -> str:
    """What a tokenizer calls a token that decodes to nothing, such as a removed special one."""
    name = getattr(tokenizer, "convert_ids_to_tokens", lambda _: None)(token)
    return str(name or f"<{token}>")


def _of_space(tokenizer: Tokenizer, pair: PromptPair, text: str) -> str:
    """Why an answer may not be one token, where a space in another place would make it one."""
    for prompt in (pair.clean, pair.corrupted):
        bare, without = prompt.removesuffix(" "), text.strip(" ")
        if prompt == bare and text == f" {without}":
            continue
        tokens = tokenizer.encode(bare, add_special_tokens=False)
        if _continuation(tokenizer, bare, tokens, f" {without}") is not None:
            if prompt != bare:
                return ": the prompt ends in a space, which belongs to the answer"
            return ", but would be one with a leading space and none behind it"
    return ""


def _continuation(
    tokenizer: Tokenizer, prompt: str, prompt_tokens: list[int], text: str
) -> int | None:
    """Return the one token that `text` adds to the prompt; None if it adds more or changes it."""
    tokens = tokenizer.encode(prompt + text, add_special_tokens=False)
    if len(tokens) == len(prompt_tokens) + 1 and tokens[:-1] == prompt_tokens:
        return tokens[-1]
    return None
