"""A pair of prompts in the tokens of one model: the rules that need no other pair."""

from dataclasses import dataclass
from typing import Protocol

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


class RejectedError(Exception):
    """A pair that breaks a rule on tokens; the message is the reason that is counted."""


def token_pair(tokenizer: Tokenizer, pair: PromptPair) -> TokenPair:
    """Tokenise a pair, or raise `RejectedError` if it breaks a rule that needs no other pair."""
    clean = tokenizer.encode(pair.clean, add_special_tokens=False)
    corrupted = tokenizer.encode(pair.corrupted, add_special_tokens=False)
    if len(clean) != len(corrupted):
        raise RejectedError("clean and corrupted prompt differ in length")
    # After both prompts: the logit difference of the corrupted run reads the same two tokens.
    continuations = {}
    for role, text in (("answer", pair.answer), ("foil", pair.foil)):
        tokens = {_continuation(tokenizer, pair.clean, clean, text)}
        tokens.add(_continuation(tokenizer, pair.corrupted, corrupted, text))
        token = tokens.pop()
        if tokens or token is None:
            raise RejectedError(f"the {role} is not one token")
        continuations[role] = token
    return TokenPair(clean, corrupted, continuations["answer"], continuations["foil"])


def _continuation(
    tokenizer: Tokenizer, prompt: str, prompt_tokens: list[int], text: str
) -> int | None:
    """Return the one token that `text` adds to the prompt; None if it adds more or changes it."""
    tokens = tokenizer.encode(prompt + text, add_special_tokens=False)
    if len(tokens) == len(prompt_tokens) + 1 and tokens[:-1] == prompt_tokens:
        return tokens[-1]
    return None
