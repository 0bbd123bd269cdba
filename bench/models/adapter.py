"""Adapters (LoRA): folders that hold a change of another model's weights, to be merged into it."""

import json
from pathlib import Path
from typing import Any

from bench.models.checkpoint import few
from tasks.errors import UserInputError

CONFIG = "adapter_config.json"
"""What tells a folder of an adapter from that of a model."""
INSTALL = "python -m pip install 'attribution-bench[lora]'"


def base_of(name: str, folder: Path) -> str | None:
    """Return the model that an adapter's folder changes; None for a folder of a whole model.

    A relative path counts from the adapter's folder, where there is such a one.

    Raises:
        UserInputError: for an adapter that names no base, and one with a whole model's weights
            beside it, of which nobody can tell whether they hold its change.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    weights = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if weights:
        raise UserInputError(
            f'Model "{name}": {folder} has the weights of a model ({weights[0].name}) and an '
            f"adapter ({CONFIG}). Give the adapter a folder of its own, or take its files away."
        )
    try:
        base = json.loads(path.read_text("utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise UserInputError(
            f'Model "{name}": {path} does not say which model it changes (base_model_name_or_path).'
        )
    return str(folder / base) if (folder / base).is_dir() else base


def merged(name: str, model: Any, folder: Path) -> Any:
    """Return a Hugging Face model with an adapter's change merged into its weights.

    Raises:
        UserInputError: where the package peft or the adapter's weights are missing.
        ValueError, RuntimeError, ...: if the adapter does not fit the model, or cannot be merged.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise UserInputError(
            f'Model "{name}" is an adapter, which needs the package peft: {INSTALL}'
        ) from error
    if not any(folder.glob("adapter_model.*")):
        raise UserInputError(
            f'Model "{name}" is an adapter without weights: {folder} has no '
            "adapter_model.safetensors or adapter_model.bin."
        )
    adapted: Any = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    if not hasattr(adapted.base_model, "merge_and_unload"):
        kind = adapted.active_peft_config.peft_type
        raise ValueError(f"an adapter of the kind {kind} cannot be merged into a model's weights")
    _check_whole(adapted, folder)
    from bench.models.same_logits import beyond_rounding, plain_logits

    expected = plain_logits(adapted, name)
    whole = adapted.merge_and_unload(safe_merge=True)
    if difference := beyond_rounding(whole, expected):
        raise ValueError(
            "with the adapter merged into its weights the model is another one (logits are off by "
            f"{difference:.2g} standard deviations), as where an embedding is the unembedding too"
        )
    return whole


def _check_whole(adapted: Any, folder: Path) -> None:
    """Raises ValueError for a LoRA whose weights are not those of the modules that it is put on."""
    if adapted.active_peft_config.peft_type != "LORA":
        return
    # Read again, for the report, which `from_pretrained` keeps to itself.
    report = adapted.load_adapter(str(folder), "default", local_files_only=True)
    for keys, what in (
        (report.unexpected_keys, "changes weights that its base does not have"),
        (report.missing_keys, "lacks the change of weights that it is said to change"),
    ):
        if of_lora := [key for key in keys if "lora_" in key]:
            raise ValueError(f"the adapter {what}: {few(of_lora)}; its base may be another")
