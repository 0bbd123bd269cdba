"""Builds a planted model from its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from bench.models.bridge import boot_bridge, quiet_transformers
from bench.models.planted.circuit import Circuit
from bench.models.planted.draft import DECOY_SIZES, Draft
from bench.models.planted.families import FAMILIES
from bench.models.planted.trained import is_trained, trained_model
from bench.models.tiny import tiny_tokenizer
from tasks.planted import TRAINED, planted_name, vocabulary


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """A model whose circuit is known.

    Attributes:
        model: a Hugging Face GPT-2 in float64, frozen, in eval mode.
        tokenizer: one token a word.
        circuits: counterfactual -> what carries the difference between its prompts.
    """

    model: Any
    tokenizer: Any
    circuits: Mapping[str, Circuit]


def planted_tokenizer() -> Any:
    """Return the tokenizer of every planted model."""
    return tiny_tokenizer(vocabulary())


def build_planted(name: str, decoy_sizes: tuple[float, float] = DECOY_SIZES) -> PlantedModel:
    """Build the model `planted-FAMILY-SEED`: the same weights in every process.

    One whose name ends in `-trained` has the weights that the suite brings along, and the labels of
    the planted model that it was trained to follow.

    Args:
        name: of the model.
        decoy_sizes: between which the norm of what a decoy writes is drawn.

    Raises:
        ValueError: it is no name of a planted model.
        UserInputError: there are no trained weights of that name, or they are damaged.
    """
    found = planted_name(name)
    if found is None:
        raise ValueError(f'"{name}" names no planted model')
    family, seed = found
    tokenizer = planted_tokenizer()
    draft = Draft(family, seed, tokenizer.get_vocab(), decoy_sizes)
    FAMILIES[family](draft)
    model = draft.wiring.model
    if is_trained(name):
        family, model = family + TRAINED, trained_model(name, model.config)
    circuits = {
        name: Circuit(family, tuple(parts), tuple(draft.carried[name]))
        for name, parts in draft.parts.items()
    }
    return PlantedModel(model, tokenizer, circuits)


def planted_bridge(
    name: str, dtype: str, device: str
) -> tuple[TransformerBridge, Any, Mapping[str, Circuit]]:
    """Build a planted model; the bridge around it, its tokenizer and its circuits."""
    planted = build_planted(name)
    with quiet_transformers():
        model = planted.model.to(device=device, dtype=getattr(torch, dtype))
        return boot_bridge(model, planted.tokenizer, name), planted.tokenizer, planted.circuits
