"""A model's configuration, and the prompts that it takes."""

from pathlib import Path
from typing import Any

from bench.models.bridge import reason_of
from tasks.errors import UserInputError
from tasks.tokens import Limits


def limits_in(name: str, folder: Path) -> Limits:
    """Return what the configuration in a folder says, without its weights.

    Raises:
        UserInputError: if there is none that transformers can read.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        return limits_of(config)
    except Exception as error:  # of whatever checks this kind of configuration
        reason = reason_of(error, folder)
        raise UserInputError(
            f'Model "{name}": config.json of {folder} cannot be read: {reason}'
        ) from error


def limits_of(config: Any) -> Limits:
    """Return what a Hugging Face configuration says of the prompts that its model takes.

    Beyond its context a model with learned positions has none, and one with rotary positions was
    never trained. State-space models have no context.
    """
    text = config.get_text_config()
    # MPT has a name of its own; Hugging Face maps those of GPT-2 and its kind to the first.
    known = [getattr(text, key, None) for key in ("max_position_embeddings", "max_seq_len")]
    context = next((size for size in known if isinstance(size, int) and size > 0), None)
    return Limits(context, getattr(text, "vocab_size", None))
