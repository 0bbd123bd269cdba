"""A tiny random model of every causal architecture that transformers and TransformerLens name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from bench.models.bridge import quiet_transformers
from bench.models.tiny import randomise, tiny_tokenizer

SMALL: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 3),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_heads", "num_local_experts", "num_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("n_routed_experts", "mamba_n_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("linear_num_key_heads",), 2),
    **dict.fromkeys(("head_dim", "attention_head_dim", "kv_lora_rank", "q_lora_rank"), 8),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"), 64),
    **dict.fromkeys(("mamba_d_ssm", "max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("max_seq_len", "n_ctx", "vocab_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("shared_intermediate_size", "moe_shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("n_group", "topk_group", "mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),
    **dict.fromkeys(("attention_multiplier", "logit_scale", "lm_head_multiplier"), 0.3),
    **dict.fromkeys(("residual_multiplier", "key_multiplier"), 0.5),
    **dict.fromkeys(("attention_out_multiplier", "ssm_out_multiplier"), 0.7),
    **dict.fromkeys(("embedding_multiplier", "logits_scaling"), 2.0),
    "attn_logit_softcapping": 5.0,
    "query_pre_attn_scalar": 8,
    **dict.fromkeys(("final_logit_softcapping", "logits_soft_cap"), 10.0),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 4),
    **dict.fromkeys(("sliding_window", "attention_chunk_size"), 4),
    "linear_num_value_heads": 4,
    "rotary_dim": 4,
    "first_k_dense_replace": 1,
}
"""Fields of configurations, wherever a configuration has them: a model of 3 layers, width 32.

Multipliers and soft caps are not 1 or none, where one that is left out could not be noticed.
"""

_LATENT = {"num_key_value_heads": 4, "head_dim": None}
_MAMBA_AND_ATTENTION = ["mamba", "attention", "mamba"]
_LINEAR_AND_FULL = ["linear_attention", "full_attention", "linear_attention"]
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "deepseek_v2": {**_LATENT, "q_lora_rank": None},
    "deepseek_v3": _LATENT,
    "gemma3_text": dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping")),
    "gemma4_text": {"vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8},
    "glm4_moe_lite": {"num_key_value_heads": 4},
    "glm_moe_dsa": {"num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local", "global"], 1]], "window_size": 4},
    "granitemoehybrid": {"layer_types": _MAMBA_AND_ATTENTION},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
        "expert_layer_offset": 1, "mamba_dt_rank": 4, "use_mamba_kernels": False,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "mpt": {"attn_config": {"alibi": True}},
    "nemotron_h": {"hybrid_override_pattern": "M*-", "mamba_num_heads": 4, "head_dim": 8},
    "qwen3_5_text": {"layer_types": _LINEAR_AND_FULL},
    "qwen3_5_moe_text": {"layer_types": _LINEAR_AND_FULL},
    "qwen3_next": {"layer_types": _LINEAR_AND_FULL},
    "youtu": _LATENT,
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid", "mamba"], "n_mamba_heads": 4, "mamba_expand": 2,
        "hybrid_layer_ids": [1], "num_mem_blocks": 1, "adapter_rank": 4,
    },
}  # fmt: skip
"""What some configurations need beside that, by model type."""


_GROUPED_FALCON = {"new_decoder_architecture": True, "num_kv_heads": 2}
OTHER_SETTINGS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "bert": ({"is_decoder": True},),
    "bloom": ({"apply_residual_connection_post_layernorm": True},),
    "cohere": ({"use_qk_norm": True},),
    "deepseek_v3": ({"q_lora_rank": None},),
    "falcon": (
        _GROUPED_FALCON, {**_GROUPED_FALCON, "multi_query": False},
        {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    "gpt2": ({"scale_attn_by_inverse_layer_idx": True},),
    "gpt_neox": ({"use_parallel_residual": False},),
    "olmo": ({"clip_qkv": 0.5},),
    "opt": ({"do_layer_norm_before": False}, {"_remove_final_layer_norm": True}),
    "phi": ({"qk_layernorm": True},),
    "stablelm": ({"use_parallel_residual": True, "qk_layernorm": True},),
}  # fmt: skip
"""Settings by which published models of a type differ in what is computed, beside the default."""


def every_variety() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name -> (model type, settings): every type as it is, and some with other settings."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for model_type in sorted(causal_model_types()):
        for settings in ({}, *OTHER_SETTINGS.get(model_type, ())):
            named = [f"{name}={value}" for name, value in settings.items()]
            found[f"{model_type}[{','.join(named)}]" if named else model_type] = (
                model_type,
                settings,
            )
    return found


def causal_model_types() -> dict[str, str]:
    """Model type -> class, of every causal model of text that both libraries name."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    found = {}
    for model_type, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        parts = getattr(CONFIG_MAPPING[model_type], "sub_configs", {})
        several = "vision_config" in parts  # images and text: the text model has its own type
        for name in [names] if isinstance(names, str) else names:
            if name in SUPPORTED_ARCHITECTURES and not several:
                found[model_type] = name
    return found


def tiny_config(model_type: str, **settings: Any) -> Any:
    """A configuration of 3 layers and width 32; `settings` are fields of it."""
    kind: Any = CONFIG_MAPPING[model_type]
    known = set(kind().to_dict())
    other_names = getattr(kind, "attribute_map", {})
    small = {
        name: value
        for name, value in SMALL.items()
        if name in known and other_names.get(name, name) not in known - {name}
    }
    return AutoConfig.for_model(model_type, **{**small, **SPECIAL.get(model_type, {}), **settings})


def save_architecture(folder: Path, config: Any, seed: int = 0) -> Path:
    """A folder as `load_model` takes it: a model of `config` with random weights, a tokenizer."""
    model: PreTrainedModel
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        randomise(model, seed)
        model.eval().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
