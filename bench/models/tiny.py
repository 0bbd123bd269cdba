"""Tiny models with random weights, one per architecture, and a tokenizer to go with them.

Hugging Face initialises biases to zero and norm weights to the identity, and its matrices are so
small that every logit is about zero: on such a model a missing bias or norm weight cannot be
noticed. Here every one-dimensional parameter is random and the matrices are large enough that
logits differ by O(1).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformer_lens.model_bridge import TransformerBridge

from bench.models.bridge import boot_bridge, quiet_transformers

ARCHITECTURES = ("gpt2", "gpt_neox", "llama", "qwen2", "gemma2", "gemma3")
BOS = "<|endoftext|>"
UNKNOWN = "<|unknown|>"
D_MODEL, N_HEADS, N_KV_HEADS, D_HEAD, D_MLP, N_POSITIONS = 32, 4, 2, 8, 64, 64

_GROUPED_QUERY: Mapping[str, Any] = {
    "hidden_size": D_MODEL,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": N_KV_HEADS,
    "head_dim": D_HEAD,
    "intermediate_size": D_MLP,
    "max_position_embeddings": N_POSITIONS,
    "tie_word_embeddings": False,
}
# A window shorter than the prompts of the tests, or the sliding layers would be ordinary ones.
_GEMMA: Mapping[str, Any] = {
    **_GROUPED_QUERY,
    "query_pre_attn_scalar": D_HEAD,
    "sliding_window": 4,
    "tie_word_embeddings": True,
}
_CONFIGS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": D_MODEL, "n_head": N_HEADS, "n_inner": D_MLP, "n_positions": N_POSITIONS},
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        {
            "hidden_size": D_MODEL,
            "num_attention_heads": N_HEADS,
            "intermediate_size": D_MLP,
            "max_position_embeddings": N_POSITIONS,
            "use_parallel_residual": True,
        },
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", _GROUPED_QUERY),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _GROUPED_QUERY),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**_GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0},
    ),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", _GEMMA),
}


def tiny_model(
    architecture: str,
    *,
    seed: int = 0,
    n_layers: int = 3,
    vocab: int = 64,
    dtype: torch.dtype = torch.float32,
    **overrides: Any,
) -> transformers.PreTrainedModel:
    """A random Hugging Face causal LM in eval mode (dropout stays configured, as on real ones).

    `overrides` are fields of the Hugging Face config. The global random state is left alone.
    """
    config_class, model_class, settings = _CONFIGS[architecture]
    layers = "n_layer" if architecture == "gpt2" else "num_hidden_layers"
    config = getattr(transformers, config_class)(
        **{
            **settings,
            layers: n_layers,
            "vocab_size": vocab,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
            "architectures": [model_class],
            "attn_implementation": "eager",
            **overrides,
        }
    )
    with torch.random.fork_rng(devices=[]):
        model = getattr(transformers, model_class)(config)
    randomise(model, seed)
    frozen: transformers.PreTrainedModel = model.to(dtype).eval().requires_grad_(False)
    return frozen


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Draw every parameter anew: norm weights about their identity, biases and matrices O(1)."""
    generator = torch.Generator().manual_seed(seed)
    identity = 0.0 if "Gemma" in type(model).__name__ else 1.0  # Gemma scales by 1 + weight
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                draw = 0.3 * draw + (0.0 if name.endswith("bias") else identity)
            elif id(parameter) in embeddings:
                draw *= 0.4
            else:
                draw *= 1.3 * parameter.shape[-1] ** -0.5
            parameter.copy_(draw)


def tiny_tokenizer(
    texts: Iterable[str] = (), *, size: int = 64
) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer in which every word of `texts`, with its leading space, is one token.

    Words split as in GPT-2 (letters, digits and punctuation apart; "Paris" and " Paris" differ);
    decoding gives the text back. Id 0 is the BOS, which is not added to prompts. Filled up to
    `size` tokens with made-up words " w2", " w3", ...
    """
    split = pre_tokenizers.Split(
        Regex(r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"), behavior="isolated"
    )
    words = [word for text in texts for word, _ in split.pre_tokenize_str(text)]
    known = list(dict.fromkeys([BOS, UNKNOWN, *words]))
    known += [f" w{index}" for index in range(len(known), size)]
    vocabulary = {word: index for index, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=BOS,
        pad_token=BOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def tiny_bridge(architecture: str, *, vocab: int = 64, **settings: Any) -> TransformerBridge:
    """A fresh bridge over `tiny_model`, frozen, in eval mode, with a tokenizer of `vocab` words."""
    model = tiny_model(architecture, vocab=vocab, **settings)
    with quiet_transformers():
        return boot_bridge(model, tiny_tokenizer(size=vocab), f"tiny-{architecture}")


def save_tiny(
    folder: Path, architecture: str = "llama", texts: Iterable[str] = (), **settings: Any
) -> Path:
    """A folder as `load_model` takes it: a tiny model and a tokenizer for `texts`."""
    tokenizer = tiny_tokenizer(texts)
    tiny_model(architecture, vocab=len(tokenizer), **settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
