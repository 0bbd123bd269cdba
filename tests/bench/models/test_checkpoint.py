"""Folders whose files do not belong together, or are not there: named, never loaded in part."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.models.bridge import first_line
from bench.models.load import load_model
from bench.models.tiny import save_tiny
from methods.core.points import Site
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.bench.models.test_adapter import save_adapter

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("sound") / "m", "llama")


def says(**changes: Any) -> Change:
    """Other words in config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def holds(**added: torch.Tensor) -> Change:
    """More weights in the checkpoint, `__` for a point in their names."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        more = {name.replace("__", "."): tensor for name, tensor in added.items()}
        save_file({**load_file(path), **more}, path, metadata={"format": "pt"})

    return change


def holds_file(name: str, content: bytes) -> Change:
    """A file of that content, of weights in place of those that are there."""

    def change(folder: Path) -> None:
        if name.endswith(".bin"):
            (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return change


def has_less(name: str) -> Change:
    """One of its weights is not in the checkpoint."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        kept = {key: tensor for key, tensor in load_file(path).items() if key != name}
        save_file(kept, path, metadata={"format": "pt"})

    return change


def has_no(pattern: str) -> Change:
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


BIAS = {"model__layers__0__self_attn__q_proj__bias": torch.ones(32)}
SCALE = {"model__layers__0__mlp__up_proj__weight_scale_inv": torch.ones(1)}
WHOLE = {"model__layers__0__mlp__up_proj__weight": torch.ones(64, 32, dtype=torch.int8)}
CODE = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            says(num_hidden_layers=2),
            "no place for weights that it has: model.layers.2.input_layernorm.weight, ",
        ),
        (says(num_hidden_layers=2), " and 5 more; it may be that of another model"),
        (holds(**BIAS), "no place for weights that it has: model.layers.0.self_attn.q_proj.bias;"),
        (holds(**SCALE), "has: model.layers.0.mlp.up_proj.weight_scale_inv; it may be"),
        (
            says(intermediate_size=128),
            "model.layers.0.mlp.down_proj.weight (32, 64), not (32, 128)",
        ),
        (
            says(vocab_size=100),
            "other sizes than its config.json says: lm_head.weight (64, 32), not",
        ),
        (says(num_hidden_layers=4), "missing: model.layers.3.input_layernorm.weight, "),
        (has_no("tokenizer*"), "tokenizer cannot be read from {folder}: there is none. `save_pre"),
        (says(num_attention_heads=5), "The hidden size (32) is not a multiple of the number"),
        (holds_file("model.safetensors", POINTER), "model.safetensors is a pointer of Git LFS"),
        (holds_file("pytorch_model.bin", POINTER), "`git lfs pull` fetches the file itself"),
        (holds_file("tokenizer.json", POINTER), "tokenizer.json is a pointer of Git LFS"),
        (
            holds_file("pytorch_model.bin", b"very much other text"),
            "holds other things than tensors, or is dama",
        ),
        (holds_file("pytorch_model.bin", b""), "a file of weights holds other things than"),
        (holds(**WHOLE), "weights are whole numbers, as quantising makes them, and its config.js"),
        (
            has_less("model.layers.1.mlp.up_proj.weight"),
            "weights are missing: model.layers.1.mlp.up_proj",
        ),
        (has_no("config.json"), "no config.json"),
        (holds_file("model.safetensors", b"torn"), "model.safetensors is damaged or cut off: "),
        (holds_file("model.safetensors", b""), "model.safetensors is damaged or cut off: "),
        (holds_file("config.json", b"{"), "config.json is not JSON in UTF-8: Expecting property"),
        (holds_file("config.json", b"[]"), "config.json is not an object of JSON"),
        (holds_file("tokenizer.json", b"{"), "tokenizer.json is not JSON in UTF-8: Expecting"),
        (says(num_hidden_layers="3"), 'm": config.json of {folder} cannot be read: '),
        (says(hidden_act="gleu"), 'its config.json says "gleu", which transformers does not know'),
        (says(**CODE), "it needs code that comes with it (auto_map), which the suite never runs"),
        (says(model_type="t5"), "has no causal language model for a T5Config, and that is what"),
    ],
)
def test_what_does_not_belong_together_is_named(
    sound: Path, tmp_path: Path, change: Change, named: str
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(sound, folder)
    change(folder)
    with pytest.raises(UserInputError, match=re.escape(named.replace("{folder}", str(folder)))):
        load_model(str(folder), device="cpu", packed=False)


def test_weights_that_are_no_part_of_the_model_are_left_alone(sound: Path, tmp_path: Path) -> None:
    """A value head, masks that were kept, and layers that predict further tokens."""
    folder = tmp_path / "m"
    shutil.copytree(sound, folder)
    whole = load_model(str(folder), device="cpu", packed=False).bridge(torch.tensor([[0, 5, 9]]))
    layer = {"model__layers__3__mlp__up_proj__weight": torch.ones(64, 32)}
    says(num_nextn_predict_layers=1)(folder)
    mask = {"model__layers__0__self_attn__bias": torch.ones(4)}
    holds(v_head__weight=torch.ones(1, 32), **mask, **layer)(folder)
    found = load_model(str(folder), device="cpu", packed=False).bridge(torch.tensor([[0, 5, 9]]))
    assert torch.equal(found, whole)


@pytest.mark.parametrize("context", [2, 4, 6])
def test_a_context_of_few_tokens_is_no_reason(tmp_path: Path, context: int) -> None:
    """What is looked at when a model is opened and measured is prompts that fit."""
    folder = save_tiny(tmp_path, "gpt2", n_positions=context)
    loaded = load_model(str(folder), device="cpu", packed=False)
    assert loaded.limits.context == context
    assert SubjectModel(loaded.bridge).sites == {*Site}


def test_an_adapter_is_merged_as_a_whole_or_not_at_all(sound: Path, tmp_path: Path) -> None:
    """Not one made for a base of more layers, one that was cut, nor one without its weights."""
    save_adapter(tmp_path, str(sound))
    path = tmp_path / "adapter_model.safetensors"
    weights = load_file(path)
    cut = {name: weight for name, weight in weights.items() if "layers.1" not in name}
    more = {name.replace("layers.1", "layers.7"): one.clone() for name, one in weights.items()}
    for content, named in (
        ({**weights, **more}, "its base does not have: .*layers.7"),
        (cut, "lacks"),
        (POINTER, "adapter_model.safetensors is a pointer of Git LFS"),
        (None, "is an adapter without weights: "),
    ):
        if isinstance(content, dict):
            save_file(content, path, metadata={"format": "pt"})
        elif content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(UserInputError, match=named):
            load_model(str(tmp_path), device="cpu", packed=False)


def test_what_a_library_says_after_a_colon_is_said_too() -> None:
    assert first_line(ValueError("a value is wrong:\n\n  it is 3\nadvice")) == (
        "a value is wrong: it is 3"
    )
    assert first_line(ValueError("")) == "ValueError"
