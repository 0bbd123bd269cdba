"""Models that this process holds already, under a name by which the suite can load them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.models.bridge import DTYPES
from bench.models.limits import limits_of
from bench.models.load import IN_MEMORY, LoadedModel
from bench.models.tokenizer import bos_of
from tasks.errors import UserInputError, nearest
from tasks.tokens import Limits

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

VOLATILE = ("_name_or_path", "transformers_version")
"""Of a configuration: where it came from."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """A model that somebody else has loaded.

    Attributes:
        bridge: frozen and in eval mode while it is used.
        tokenizer: the Hugging Face tokenizer.
        kind: what it is called, before its digest.
    """

    bridge: TransformerBridge
    tokenizer: Any
    kind: str

    @property
    def dtype(self) -> str:
        """A name of `DTYPES`; raises UserInputError for another."""
        dtype = str(next(iter(self.bridge.parameters())).dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise UserInputError(f"{self.kind} has weights of {dtype}.{nearest(dtype, DTYPES)}")
        return dtype

    @property
    def device(self) -> str:
        """Where it is."""
        device = next(iter(self.bridge.parameters())).device
        return str(device) if device.type == "cuda" else device.type

    @property
    def limits(self) -> Limits:
        """The prompts that it takes."""
        return limits_of(self.bridge.original_model.config)

    @cached_property
    def digest(self) -> str:
        """What identifies it: `digest_of` when it was first asked for."""
        return digest_of(self.bridge, self.tokenizer)

    @property
    def name(self) -> str:
        """`LlamaForCausalLM@1a2b3c4d`: its kind and the begin of its digest."""
        return f"{self.kind}@{self.digest[:8]}"

    def load(self) -> LoadedModel:
        """The model as `load_model` gives any; its weights are summed again."""
        bos_id, rule = bos_of(self.tokenizer, None, self.name)
        digest = digest_of(self.bridge, self.tokenizer)
        return LoadedModel(
            self.name,
            self.bridge,
            self.tokenizer,
            bos_id,
            rule,
            digest,
            digest,
            self.dtype,
            self.device,
            limits=self.limits,
        )


@contextmanager
def held(model: InMemory) -> Iterator[str]:
    """The name under which `load_model` knows the model, in the block."""
    IN_MEMORY[model.name] = model
    try:
        yield model.name
    finally:
        del IN_MEMORY[model.name]


def digest_of(bridge: TransformerBridge, tokenizer: Any) -> str:
    """The sha256 over configuration, tokenizer and weights, wherever they came from."""
    inner: Any = bridge.original_model
    config = {key: value for key, value in inner.config.to_dict().items() if key not in VOLATILE}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = json.dumps(tokenizer.get_vocab(), sort_keys=True) if fast is None else fast.to_str()
    digest.update(words.encode())
    digest.update(str(tokenizer.special_tokens_map).encode())
    for name, tensor in sorted(inner.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
