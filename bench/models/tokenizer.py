"""Reads a model's tokenizer, and chooses the one token that goes in front of every prompt."""

from pathlib import Path
from typing import Any

from bench.models.bridge import first_line, quiet_transformers
from tasks.errors import UserInputError, nearest

END_OF_TEXT = "<|endoftext|>"


def read_tokenizer(name: str, folder: Path) -> Any:
    """Read the tokenizer of model `name` from a folder.

    Raises:
        UserInputError: the folder has none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise UserInputError(
            f'Model "{name}": its tokenizer cannot be read from {folder}: {first_line(error)}'
        ) from error


def bos_of(tokenizer: Any, stated: str | None = None, name: str = "it") -> tuple[int | None, str]:
    """Return the one token that goes in front of every prompt, and the rule that chose it.

    A `stated` one is taken. Otherwise the tokenizer keeps the one that it adds in front itself,
    else its `bos_token` is taken, else its `eos_token`. A `bos_token` that opens a chat turn
    (`<|im_start|>`) gives way to `<|endoftext|>`, which separated documents in pretraining.

    Args:
        tokenizer: of the model.
        stated: by the model's entry.
        name: of the model, for messages.

    Raises:
        UserInputError: for a stated one that the tokenizer does not have.
    """
    if stated is not None:
        return _id_of(tokenizer, stated, name), "stated for this model"
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    if full[:1] != plain[:1]:
        return int(full[0]), "the tokenizer adds it"
    if tokenizer.bos_token == "<|im_start|>" and END_OF_TEXT in tokenizer.get_vocab():
        return int(tokenizer.convert_tokens_to_ids(END_OF_TEXT)), "end of text"
    if tokenizer.bos_token_id is not None:
        return int(tokenizer.bos_token_id), "tokenizer.bos_token"
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id), "tokenizer.eos_token"
    return None, "the tokenizer has none"


def _id_of(tokenizer: Any, token: str, name: str) -> int:
    """Return a token's id; one that there is not would become that of unknown words."""
    ids = tokenizer.get_vocab()
    if token not in ids:
        raise UserInputError(
            f'Model "{name}": its entry states the BOS "{token}", which is no token of its '
            f"tokenizer.{nearest(token, tokenizer.all_special_tokens)}"
        )
    return int(ids[token])
