"""A word-level tokenizer made by hand, so that token checks fail exactly where a test says."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

BOS = 0


@dataclass
class WordTokenizer:
    """One token a word, with the space in front of it; ids are given in order of appearance."""

    halved: Collection[str] = ()
    """Words that become two tokens."""
    merged: Collection[str] = ()
    """Words that all become the same token."""
    glued: Collection[str] = ()
    """Words that swallow the token before them."""
    adds_bos: bool = False
    """Whether a BOS is added even where no special tokens are asked for."""
    vocabulary: dict[str, int] = field(default_factory=lambda: {"<bos>": BOS})

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        pieces: list[str] = ["<bos>"] if self.adds_bos else []
        for piece in re.findall(r" ?(?:\w+|[^\w\s])", text):
            word = piece.strip()
            if word in self.halved:
                pieces += [piece[:-1], piece[-1]]
            elif word in self.merged:
                pieces.append(" <merged>")
            elif word in self.glued:
                pieces += [pieces.pop() + piece, "<glue>"]
            else:
                pieces.append(piece)
        return [self.vocabulary.setdefault(piece, len(self.vocabulary)) for piece in pieces]

    def decode(self, token_ids: list[int]) -> str:
        strings = {token: piece for piece, token in self.vocabulary.items()}
        return "".join(strings[token] for token in token_ids)
