"""Reads a model's tokenizer, and chooses the one token that goes in front of every prompt."""

import re
from pathlib import Path
from typing import Any

from bench.models.bridge import quiet_transformers, reason_of
from bench.models.limits import limits_in
from tasks.errors import UserInputError, nearest
from tasks.tokens import Limits

NO_BOS = "none"
"""What is stated where nothing shall stand in front of prompts."""
TOKENIZERS = ("tokenizer[!_]*", "vocab*", "merges.txt", "*.model", "*.tiktoken", "tekken.json")
"""Files of which a tokenizer has one at least."""
SEPARATORS = ("<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>")
"""Tokens that stood between documents in pretraining."""
CHAT_TURN = re.compile(
    r"im_(start|end|sep)|.*(turn|header_id|role_(start|end)).*|eo[tm](_id)?"
    r"|start|end|message|return|system|user|assistant|/?inst",
    re.IGNORECASE,
)
"""What the name of a token says, without its brackets, that opens or ends a turn of a chat."""


def read_tokenizer(name: str, folder: Path) -> Any:
    """Read the tokenizer of model `name` from a folder.

    Raises:
        UserInputError: the folder has none that transformers can read, or a configuration that it
            cannot read, of which a tokenizer takes its class.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # of whatever library reads this kind of tokenizer
        if (folder / "config.json").is_file():
            limits_in(name, folder)
        reason = reason_of(error, folder)
        if not any(path for pattern in TOKENIZERS for path in folder.glob(pattern)):
            reason = "there is none. `save_pretrained` of the tokenizer writes it."
        raise UserInputError(
            f'Model "{name}": its tokenizer cannot be read from {folder}: {reason}'
        ) from error


def bos_of(tokenizer: Any, stated: str | None = None, name: str = "it") -> tuple[int | None, str]:
    """Return the one token that goes in front of every prompt, and the rule that chose it.

    A `stated` one is taken, or none at all for "none". Otherwise the tokenizer keeps the one that
    it adds in front itself, else its `bos_token` is taken, else its `eos_token`. One of them that
    opens or ends a turn of a chat (`<|im_start|>`, `<|im_end|>`, `<|eot_id|>`, ...) gives way to
    the token that separated documents in pretraining (`SEPARATORS`), where there is one, and is
    never taken.

    Args:
        tokenizer: of the model.
        stated: by the matrix or the model's entry.
        name: of the model, for messages.

    Raises:
        UserInputError: for a stated one that the tokenizer does not have, and a tokenizer that adds
            several where none is stated.
    """
    if stated is not None:
        if stated.casefold() == NO_BOS:
            return None, "stated: none"
        return _id_of(tokenizer, stated, name), "stated for this model"
    candidates = [
        (token, f"tokenizer.{rule}")
        for rule in ("bos_token", "eos_token")
        if (token := getattr(tokenizer, rule)) is not None
    ]
    if added := _added(tokenizer, name):
        candidates.insert(0, (added, "the tokenizer adds it"))
    known = tokenizer.get_vocab()
    for token, rule in candidates:
        if not CHAT_TURN.fullmatch(token.strip("<>[]|\uff5c ")):
            return int(tokenizer.convert_tokens_to_ids(token)), rule
        for separator in SEPARATORS:
            if separator in known:
                return int(known[separator]), "end of text"
    return None, "the tokenizer has none" + (" but those of chats" if candidates else "")


def _added(tokenizer: Any, name: str) -> str:
    """Return the token that a tokenizer puts in front of a text itself; "" where it puts none.

    Raises:
        UserInputError: if it puts several there.
    """
    try:
        tokenizer(text := "a")
    except Exception:  # it has no token for what it does not know
        text = next(iter(tokenizer.get_vocab()))
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    full = tokenizer(text)["input_ids"]
    if full[:1] == plain[:1]:
        return ""
    starts = (at for at in range(1, len(full)) if full[at : at + len(plain)] == plain)
    tokens = tokenizer.convert_ids_to_tokens(full[: next(starts, 1)])
    if len({*tokens}) > 1:
        raise UserInputError(
            f'Model "{name}": its tokenizer puts several tokens in front of every text '
            f"({' '.join(tokens)}), and the suite puts one at most: state one of them, or "
            f'"{NO_BOS}", as its `bos`.'
        )
    return str(tokens[0])


def _id_of(tokenizer: Any, token: str, name: str) -> int:
    """Return a token's id; one that there is not would become that of unknown words."""
    ids = tokenizer.get_vocab()
    if token not in ids:
        raise UserInputError(
            f'Model "{name}": its entry or the matrix states the BOS "{token}", which is no token '
            f'of its tokenizer; "{NO_BOS}" puts none in front of prompts.'
            f"{nearest(token, tokenizer.all_special_tokens)}"
        )
    return int(ids[token])


def check_bos(name: str, bos_id: int | None, limits: Limits) -> None:
    """Raises UserInputError for a BOS that the tokenizer has and the model has not."""
    if bos_id is not None and limits.vocabulary is not None and bos_id >= limits.vocabulary:
        raise UserInputError(
            f'Model "{name}": the BOS of its tokenizer has the id {bos_id}, and the model has '
            f'{limits.vocabulary} tokens: state another one, or "none", as its `bos`.'
        )
