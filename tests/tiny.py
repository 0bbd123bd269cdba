"""The tiny models of `bench.models.tiny`, under the name that tests know them by."""

from bench.models.tiny import (
    ARCHITECTURES,
    BOS,
    D_HEAD,
    D_MLP,
    D_MODEL,
    N_HEADS,
    N_KV_HEADS,
    N_POSITIONS,
    UNKNOWN,
    randomise,
    save_tiny,
    tiny_bridge,
    tiny_model,
    tiny_tokenizer,
)

__all__ = [
    "ARCHITECTURES",
    "BOS",
    "D_HEAD",
    "D_MLP",
    "D_MODEL",
    "N_HEADS",
    "N_KV_HEADS",
    "N_POSITIONS",
    "UNKNOWN",
    "randomise",
    "save_tiny",
    "tiny_bridge",
    "tiny_model",
    "tiny_tokenizer",
]
