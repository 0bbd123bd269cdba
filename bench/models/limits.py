"""The prompts that a model takes, as its configuration says."""

from typing import Any

from tasks.tokens import Limits


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
