"""Adapters are merged into their base; a package that is missing is named with its command."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bench.cli.app import app
from bench.execution.run import run_matrix
from bench.models.load import load_model, model_digest
from bench.models.tiny import save_tiny, tiny_model
from tasks.errors import UserInputError
from tests.small import brief_matrix

TARGETS = ("q_proj", "v_proj", "down_proj")
IDS = torch.tensor([[0, 5, 9, 11, 3]])


def save_adapter(
    folder: Path, base: str, seed: int = 0, targets: Sequence[str] = TARGETS, **settings: Any
) -> Any:
    """A random LoRA change of the tiny Llama's matrices; gives the model with it, not merged."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=3, target_modules=[*targets], init_lora_weights=False)
        adapted = get_peft_model(tiny_model("llama", **settings), config).eval()
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(str(folder))
    return adapted


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base", "llama")


def test_an_adapter_is_merged_into_its_base(base: Path, tmp_path: Path) -> None:
    """Against peft's own model, whose base and change stay apart; by a path relative to it, too."""
    adapted = save_adapter(tmp_path / "adapter", str(base))
    loaded = load_model(str(tmp_path / "adapter"), device="cpu", packed=False)
    with torch.no_grad():
        expected, found = adapted(IDS).logits, loaded.bridge(IDS)
        plain = load_model(str(base), device="cpu", packed=False).bridge(IDS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 0.1
    assert not any("lora" in name for name, _ in loaded.bridge.named_parameters())
    assert loaded.digest == loaded.content == model_digest(str(tmp_path / "adapter"))
    save_adapter(tmp_path / "relative", "../base")
    with torch.no_grad():
        relative = load_model(str(tmp_path / "relative"), device="cpu", packed=False).bridge(IDS)
    assert torch.equal(relative, found)


@pytest.mark.parametrize("tied", [False, True])
def test_what_cannot_be_said_in_merged_weights_is_refused(tmp_path: Path, tied: bool) -> None:
    """A change of the embedding alone, where that is the unembedding too."""
    base = save_tiny(tmp_path / "base", "llama", tie_word_embeddings=tied)
    targets = ["embed_tokens"]
    adapted = save_adapter(tmp_path / "a", str(base), 0, targets, tie_word_embeddings=tied)
    if tied:
        with pytest.raises(UserInputError, match="merged into its weights the model is another"):
            load_model(str(tmp_path / "a"), device="cpu", packed=False)
        return
    loaded = load_model(str(tmp_path / "a"), device="cpu", packed=False)
    with torch.no_grad():
        torch.testing.assert_close(loaded.bridge(IDS), adapted(IDS).logits, rtol=1e-4, atol=1e-4)


def test_an_adapters_digest_follows_its_own_files_and_its_base(base: Path, tmp_path: Path) -> None:
    digests = {model_digest(str(base))}
    for seed in (0, 1):
        save_adapter(tmp_path / "adapter", str(base), seed)
        digests.add(model_digest(str(tmp_path / "adapter")))
    (base / "config.json").write_text((base / "config.json").read_text() + " ")
    digests.add(model_digest(str(tmp_path / "adapter")))
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"base_model_name_or_path": None}, "does not say which model it changes"),
        ({"base_model_name_or_path": "/not/here"}, 'adapter of "/not/here".*no such directory'),
        ({"base_model_name_or_path": "."}, "that is an adapter too"),
        ({"peft_type": "NONSENSE"}, "cannot be loaded from .*base: .*NONSENSE"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_named(
    base: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    folder = tmp_path / "adapter"
    save_adapter(folder, str(base))
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(UserInputError, match=named):
        load_model(str(folder), device="cpu")


def test_an_adapter_of_prompts_is_no_change_of_weights(base: Path, tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    adapted: Any = get_peft_model(tiny_model("llama"), config)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(str(tmp_path / "prompts"))
    with pytest.raises(UserInputError, match=r"PROMPT_TUNING cannot be merged"):
        load_model(str(tmp_path / "prompts"), device="cpu")


def test_without_peft_or_beside_a_models_weights_an_adapter_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_adapter(tmp_path / "adapter", str(base))
    save_adapter(base, "elsewhere")
    with pytest.raises(UserInputError, match=r"model\.safetensors.* a folder of its own"):
        load_model(str(base), device="cpu")
    (base / "adapter_config.json").unlink()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserInputError, match=r"needs the package peft: .*attribution-bench\[lora"):
        load_model(str(tmp_path / "adapter"), device="cpu")


def test_a_checkpoint_whose_package_is_missing_says_how_to_install_it(
    base: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """In words at the command line; in a matrix, failed cells, and the others go on."""
    path = base / "config.json"
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantised}))
    said = CliRunner().invoke(app, ["tasks", "--model", str(base), "--task", "ioi"])
    assert isinstance(said.exception, UserInputError)
    assert "python -m pip install 'bitsandbytes>=" in str(said.exception)
    models = [{"name": str(folder), "device": "cpu"} for folder in (base, tiny_folder)]
    matrix = brief_matrix(base, models=models, methods=["grad_scalar"], controls={"draws": 0})
    outcome = run_matrix(matrix, tmp_path / "run")
    ((failed,), (done,)) = outcome.failed, outcome.computed
    assert failed.error is not None
    assert "python -m pip install" in failed.error.message
    assert outcome.store.record(done).model == str(tiny_folder)
