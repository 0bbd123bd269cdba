"""A bridge that is not the model, or cannot be made, is a stated failure at load."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

from bench.models.load import load_model
from bench.models.same_logits import BridgeError
from bench.models.tiny import save_tiny
from tests.architectures.tiny import save_architecture, tiny_config

GROUPED_FALCON: dict[str, Any] = {
    "num_kv_heads": 2,
    "new_decoder_architecture": True,
    "alibi": False,
}


@pytest.mark.parametrize(
    ("model_type", "settings", "said"),
    [
        (
            "falcon",
            {**GROUPED_FALCON, "multi_query": False, "bias": False},
            r"makes another model of FalconForCausalLM: logits .* standard deviations",
        ),
        ("falcon", GROUPED_FALCON, r"cannot be put around FalconForCausalLM \(RuntimeError: "),
        ("opt", {"do_layer_norm_before": False}, r"cannot be put around OPT.* \(RuntimeError: "),
    ],
)
def test_the_library_at_fault_is_named(
    tmp_path: Path, model_type: str, settings: dict[str, Any], said: str
) -> None:
    folder = save_architecture(tmp_path / "model", tiny_config(model_type, **settings))
    with pytest.raises(BridgeError, match=rf"TransformerLens [\d.]+ {said}.*pip install -U"):
        load_model(str(folder), device="cpu")


def test_a_model_whose_tokens_see_later_ones_is_refused(tmp_path: Path) -> None:
    folder = save_architecture(tmp_path / "model", tiny_config("bert"))
    with pytest.raises(BridgeError, match=r"BertLMHeadModel tokens see later ones.*is_decoder"):
        load_model(str(folder), device="cpu")


def test_a_model_that_transformers_cannot_run_is_named(tmp_path: Path) -> None:
    """Four heads for queries, two for keys: DeepSeek's latent attention has no groups."""
    config = tiny_config("deepseek_v3", num_key_value_heads=2)
    folder = save_architecture(tmp_path / "model", config)
    with pytest.raises(BridgeError, match=r"transformers [\d.]+ itself cannot run this DeepseekV3"):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1.01), ("bfloat16", 1.5)])
def test_a_difference_beyond_rounding_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, error: float
) -> None:
    """Without the error the same folder loads, in either dtype."""
    folder = save_tiny(tmp_path / "model")
    load_model(str(folder), device="cpu", dtype=dtype)
    real: Any = TransformerBridge.forward
    monkeypatch.setattr(
        TransformerBridge, "forward", lambda *a, **options: error * real(*a, **options)
    )
    with pytest.raises(BridgeError, match="makes another model of LlamaForCausalLM"):
        load_model(str(folder), device="cpu", dtype=dtype)


def test_no_second_copy_of_the_weights_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path / "model")
    auto: Any = transformers.AutoModelForCausalLM
    real, read = auto.from_pretrained, []
    monkeypatch.setattr(auto, "from_pretrained", lambda *a, **k: read.append(a) or real(*a, **k))
    bridge = load_model(str(folder), device="cpu").bridge
    assert len(read) == 1
    assert not any(isinstance(value, torch.Tensor) for value in vars(bridge).values())
