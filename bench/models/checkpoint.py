"""What a checkpoint is: its digest, and whether its weights are those that its config.json says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

LFS = b"version https://git-lfs"
"""How a file begins that stands for another one, which Git LFS keeps elsewhere."""
SHOWN_KEYS = 4
IDENTIFYING_FILES = (
    "config.json",
    "adapter_config.json",
    "*token*.json",
    "tekken.json",
    "*.model",
    "*.tiktoken",
    "vocab.*",
    "merges.txt",
    "*.safetensors",
    "*.bin",
)
"""What a folder's digest covers: configuration, tokenizer and weights, in either format."""


def check_whole(model: Any, report: Mapping[str, Any]) -> None:
    """Check what transformers reports of a checkpoint, where it would go on without a word.

    Args:
        model: the Hugging Face model that was read.
        report: of `from_pretrained(..., output_loading_info=True)`.

    Raises:
        ValueError: weights are missing and would be random, have other sizes, or belong to a layer
            or module of the model which by its configuration has no place for them.
    """
    if report["mismatched_keys"]:
        key, found, expected = min(report["mismatched_keys"])
        raise ValueError(
            f"weights have other sizes than its config.json says: {key} {tuple(found)}, not "
            f"{tuple(expected)}"
        )
    if report["missing_keys"]:
        raise ValueError(f"weights are missing: {few(report['missing_keys'])}")
    left_over = [key for key in report["unexpected_keys"] if _has_no_place(model, key)]
    if left_over:
        raise ValueError(
            f"its config.json has no place for weights that it has: {few(left_over)}; it may be "
            "that of another model"
        )


def _has_no_place(model: Any, key: str) -> bool:
    """Whether a weight would be that of a module that is there, or of a layer behind the last."""
    beyond = getattr(model.config.get_text_config(), "num_nextn_predict_layers", None) or 0
    for name in (key, f"{model.base_model_prefix}.{key}"):
        parent, _, leaf = name.rpartition(".")
        module = _module(model, parent)
        if hasattr(module, "weight") and (leaf == "bias" or leaf.startswith("weight")):
            return True
        if stack := re.match(r"(.+?)\.(\d+)\.", name):
            layers = _module(model, stack[1])
            # Layers that predict further tokens stand behind the others, and are not used.
            if isinstance(layers, Iterable) and int(stack[2]) >= len([*layers]) + beyond:
                return True
    return False


def _module(model: Any, name: str) -> Any:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def few(keys: Iterable[str]) -> str:
    """The first keys of many, and how many more there are."""
    names = sorted(keys)
    more = len(names) - SHOWN_KEYS
    return ", ".join(names[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")


def check_numbers(folder: Path) -> None:
    """Raises ValueError for weights that are whole numbers, of which no setting says a scale."""
    from safetensors import safe_open

    if "quant" in (folder / "config.json").read_text("utf-8"):
        return
    whole = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            keys = file.keys()
            weights = [key for key in keys if key.endswith("weight")]
            whole += [key for key in weights if file.get_slice(key).get_dtype()[0] in "IU"]
    if whole:
        raise ValueError(
            "weights are whole numbers, as quantising makes them, and its config.json has no "
            f"quantization_config that says of what: {few(whole)}"
        )


def damaged_in(folder: Path) -> str:
    """Which file of a folder is not what its name says, and why; "" where none is seen."""
    from safetensors import SafetensorError, safe_open

    for pattern in ("config.json", "tokenizer*.json", "*.index.json"):
        for path in sorted(folder.glob(pattern)):
            try:
                value = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                return f"{path} is not JSON in UTF-8: {error}."
            if not isinstance(value, dict):
                return f"{path} is not an object of JSON."
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "numpy"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path} is damaged or cut off: {error}."
    return ""


def pointer_in(folder: Path) -> Path | None:
    """A file of the folder that was not fetched by Git LFS; None where all were."""
    for path in sorted(folder.glob("*.*")):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(LFS)) == LFS:
                    return path
    return None


def folder_digest(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """The sha256 over the files that identify a model; `known` has that of some by name."""
    digest = hashlib.sha256()
    paths = {path for pattern in IDENTIFYING_FILES for path in folder.glob(pattern)}
    for path in sorted(paths):
        content = known.get(path.name)
        if content is None:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()
