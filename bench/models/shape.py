"""Layers and heads of a model that is not loaded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.models.load import MODELS

LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
HEADS = ("num_attention_heads", "n_head", "num_heads")
KV_HEADS = ("num_key_value_heads",)
"""What configurations call them."""


@dataclass(frozen=True)
class ModelShape:
    """How many layers a model has, and heads for queries and for keys and values."""

    n_layers: int
    n_heads: int
    n_kv_heads: int

    def heads(self, shared: bool) -> int:
        """Heads of `k` and `v`, or of `q`, `z` and `o`."""
        return self.n_kv_heads if shared else self.n_heads


OWN = {
    "smollm2-135m": ModelShape(30, 9, 3),
    "gpt2": ModelShape(12, 12, 12),
    "gpt2-xl": ModelShape(48, 25, 25),
    "pythia-1.4b": ModelShape(24, 16, 16),
}
"""Of the suite's own models, which need not be on this machine."""


def model_shape(name: str) -> ModelShape | None:
    """The shape of a model, from its configuration where that is on this machine; else None."""
    if name in OWN:
        return OWN[name]
    entry = MODELS.get(name)
    folder = Path(name).expanduser() if entry is None or entry.folder is None else entry.folder
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config = config.get("text_config", config)
        layers, heads = _first(config, LAYERS), _first(config, HEADS)
        return ModelShape(layers, heads, _first(config, KV_HEADS, heads))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _first(config: dict[str, Any], names: tuple[str, ...], default: int | None = None) -> int:
    """The first of several names that a configuration has; raises KeyError for none."""
    found = next((config[name] for name in names if config.get(name)), default)
    if found is None:
        raise KeyError(names[0])
    return int(found)
