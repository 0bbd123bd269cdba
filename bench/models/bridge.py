"""Puts TransformerLens's bridge around a model that is in a folder or in memory; finds devices."""

import copy
import io
import os
import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from bench.models.adapter import merged
from bench.models.checkpoint import check_numbers, check_whole, damaged_in, pointer_in
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

DTYPES = ("float32", "float16", "bfloat16", "float64")
DEVICES = ("auto", "cpu", "cuda", "mps")


def device_kind(device: str) -> str:
    """Return a device's name without its number; it need not be on this machine.

    Raises:
        UserInputError: for a device that no machine has.
    """
    kind, _, index = device.partition(":")
    if kind not in DEVICES or (index and not (kind == "cuda" and index.isdigit())):
        raise UserInputError(f'Unknown device "{device}".{nearest(device, [*DEVICES, "cuda:0"])}')
    return kind


def resolve_device(device: str) -> str:
    """Return the device to use: "auto" is resolved, any other has to be there.

    Raises:
        UserInputError: no such device, or no device of that name here.
    """
    kind, index = device_kind(device), device.partition(":")[2]
    import torch

    cuda_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if cuda_devices else "cpu"
    if kind == "cuda" and int(index or 0) >= cuda_devices:
        raise UserInputError(
            f'Device "{device}" is not there: torch {torch.__version__} sees {cuda_devices} CUDA '
            'devices here. "auto" takes a CUDA device where there is one, else the CPU.'
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserInputError('Device "mps" is not there: torch sees no Apple GPU here.')
    return device


def shared_gpus(devices: Collection[str]) -> list[str]:
    """The GPUs that are shared out among workers, as CUDA_VISIBLE_DEVICES names them.

    Args:
        devices: those of a matrix's models.

    Raises:
        UserInputError: if one is a GPU by its number, which all would compute on.
    """
    import torch

    numbered = sorted(device for device in devices if device.startswith("cuda:"))
    if numbered:
        raise UserInputError(
            f'--workers shares the GPUs out, one a worker, so device "{numbered[0]}" cannot be '
            'had: write "cuda". To use some of the GPUs, name them in CUDA_VISIBLE_DEVICES.'
        )
    if not {"auto", "cuda"}.intersection(devices) or not torch.cuda.is_available():
        return []
    numbers = ",".join(map(str, range(torch.cuda.device_count())))
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or numbers).split(",")


def read_bridge(
    name: str,
    folder: Path,
    tokenizer: Any,
    dtype: str,
    device: str,
    *,
    adapter: Path | None = None,
) -> "TransformerBridge":
    """Read a causal LM from a folder onto a device, and put a frozen bridge around it.

    Args:
        name: of the model, for messages.
        folder: where it is.
        tokenizer: its own.
        dtype: one of `DTYPES`.
        device: never "auto".
        adapter: the folder of a change of its weights that is merged into them.

    Raises:
        UserInputError: the folder's model cannot be read by transformers (without running code
            that comes with it) or by TransformerLens, a package that it needs is not there, its
            weights are not all and only those of its configuration, or the adapter cannot be
            merged.
    """
    import torch
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM  # its types leave out the report
    try:
        with quiet_transformers():
            model, report = auto.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                attn_implementation="eager",  # what the bridge's hooks need; set from the start
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are reported
            )
            check_whole(model, report)
            check_numbers(folder)
            if adapter is not None:
                model = merged(name, model, adapter)
            return boot_bridge(model.to(device), tokenizer, str(folder))
    except UserInputError:
        raise
    except Exception as error:  # of whatever library reads this kind of checkpoint
        folders = [folder] if adapter is None else [folder, adapter]
        raise UserInputError(
            f'Model "{name}" cannot be loaded from {folder}: {reason_of(error, *folders)}'
        ) from error


def boot_bridge(model: Any, tokenizer: Any, label: str) -> "TransformerBridge":
    """Put a frozen TransformerBridge around a Hugging Face model in memory, asking no hub.

    A few logits of the model as it is are compared with the bridge's.

    Args:
        model: a causal LM, where it shall stay and in its final dtype.
        tokenizer: its tokenizer, which is not changed.
        label: a name for messages.

    Raises:
        BridgeError: TransformerLens cannot wrap the model, or gives it other logits; or the model
            is not causal, or cannot be run.
    """
    from transformer_lens.model_bridge import TransformerBridge

    from bench.models.same_logits import cannot_wrap, check_same_logits, plain_logits

    # The bridge loads a tokenizer again by its name unless it is known to add a BOS. It is told so
    # on a copy, which it may change as it likes: the suite passes token ids.
    own = copy.deepcopy(tokenizer)
    own.init_kwargs = {**own.init_kwargs, "name_or_path": label, "add_bos_token": True}
    expected = plain_logits(model, label)
    try:
        bridge = TransformerBridge.boot_transformers(
            label,
            hf_model=model,
            tokenizer=own,
            device=str(model.device),
            dtype=model.dtype,
            trust_remote_code=False,
        )
    except Exception as error:
        raise cannot_wrap(model, label, error) from error
    bridge.eval().requires_grad_(False)
    check_same_logits(bridge, expected, label)
    return bridge


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence what transformers and TransformerLens print while a model is loaded.

    Log level and progress bars are as before on leaving. Errors are exceptions and get through.
    """
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # Not every bar obeys the setting: de-quantising draws one straight to stderr.
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def reason_of(error: Exception, *folders: Path) -> str:
    """Return why a library could not read something in folders, and how to get what it lacks."""
    for pointer in filter(None, map(pointer_in, folders)):
        return f"{pointer} is a pointer of Git LFS; `git lfs pull` fetches the file itself."
    for damaged in filter(None, map(damaged_in, folders)):
        return damaged
    # Of the first of these torch explains how to run whatever is in the file.
    if isinstance(error, UnpicklingError | EOFError):
        return "a file of weights holds other things than tensors, or is damaged."
    line = first_line(error)
    if "custom code" in line:
        return (
            "it needs code that comes with it (auto_map), which the suite never runs; a release of "
            "transformers that has this model itself can read it."
        )
    if kind := re.search(r"Unrecognized configuration class .*?(\w+)'?>? for this kind of", line):
        return f"transformers has no causal language model for a {kind[1]}, and that is what it is."
    if isinstance(error, KeyError) and any(_says(folder, error.args[0]) for folder in folders):
        return f'its config.json says "{error.args[0]}", which transformers does not know.'
    if isinstance(error, ImportError):
        command = re.search(r"pip install (?:-U |--upgrade )?['\"]?([^\s`'\"]+)", str(error))
        package = command[1].rstrip(".,)") if command else (error.name or "").partition(".")[0]
        return f"{line} Install it: python -m pip install '{package}'" if package else line
    # What other errors say may be a bare name, as that of a KeyError.
    plain = isinstance(error, OSError | ValueError | RuntimeError)
    return line if plain else f"{type(error).__name__}: {line}"


def _says(folder: Path, value: object) -> bool:
    path = folder / "config.json"
    return path.is_file() and f'"{value}"' in path.read_text("utf-8")


def first_line(error: Exception) -> str:
    """Return the first line of a library's error message, and the next where that ends in a colon.

    The rest is advice on the library's own calls.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if text.endswith(":") and len(lines) > 1:
        text = f"{text} {lines[1]}"
    return text[:300]
