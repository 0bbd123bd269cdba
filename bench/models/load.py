"""Loads models by name: the embedded one, planted ones, those of the hub, and local directories.

Nothing heavy is imported until a model is loaded.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models import adapter
from bench.models.bridge import DTYPES, read_bridge, resolve_device
from bench.models.checkpoint import folder_digest
from bench.models.embedded import WEIGHTS_DIGEST, embedded_folder
from bench.models.hub import HUB_ID, checked_files, hub_commit, hub_folder
from bench.models.limits import limits_in, limits_of
from bench.models.planted.trained import TRAINED_NAMES, is_trained, trained_digest
from bench.models.tokenizer import bos_of, check_bos, read_tokenizer
from tasks.errors import UserInputError, nearest
from tasks.planted import planted_name
from tasks.tokens import NO_LIMITS, Limits

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from bench.models.memory import InMemory
    from bench.models.planted.circuit import Circuit


@dataclass(frozen=True)
class ModelEntry:
    """A named model.

    Attributes:
        summary: one line for `list`.
        hub_id: "owner/name" on the hub; None for the embedded model and planted ones.
        bos: the token that stands before every prompt, or "none", where it is another than the
            tokenizer's own rule gives (`bench.models.tokenizer.bos_of`).
        folder: where the model is on this machine, of a plug-in that brings its own.
        version: of a plug-in, which code it is. Cells of other code are other cells.
        origin: of a plug-in, the package or file that it comes from, in words.
    """

    summary: str
    hub_id: str | None
    bos: str | None = None
    folder: Path | None = None
    version: str = ""
    origin: str = ""


MODELS: dict[str, ModelEntry] = {
    "smollm2-135m": ModelEntry(
        "SmolLM2-135M-Instruct: 30 layers, d_model 576, 3 of 9 heads for keys; no hub needed", None
    ),
    "gpt2": ModelEntry("GPT2-Small: 12 layers, d_model 768", "openai-community/gpt2"),
    "gpt2-xl": ModelEntry(
        "GPT2-XL, the paper's model: 48 layers, d_model 1600", "openai-community/gpt2-xl"
    ),
    "pythia-1.4b": ModelEntry(
        "Pythia-1.4B: 24 layers, d_model 2048, attention and MLP in parallel",
        "EleutherAI/pythia-1.4b",
    ),
    "planted-lookup": ModelEntry("planted: an MLP knows the answer, a head moves it", None),
    "planted-induction": ModelEntry("planted: previous-token head and induction head", None),
    "planted-conflict": ModelEntry("planted: what is known against what the prompt states", None),
    "planted-ioi": ModelEntry(
        "planted: a repeated name is found, inhibited, the other moved", None
    ),
    "planted-backup": ModelEntry("planted: a head that counts only where the first is gone", None),
    "planted-distractors": ModelEntry(
        "planted: a sharp head selects, beside what is large and means nothing", None
    ),
    **{
        name: ModelEntry(f"planted, then trained with ordinary norms: {family}", None)
        for name, family in TRAINED_NAMES.items()
    },
}
PLANTED_VERSION = 1
"""Raised whenever the weights that are wired for a name change."""

IN_MEMORY: dict[str, "InMemory"] = {}
"""Models that this process holds already, by name, while `bench.models.memory.held` says so."""
STATED = {"bos", "plugin"}
"""What an entry may say that decides numbers (`stated_of`): a BOS, the code of a plug-in."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready for measuring: frozen, in eval mode.

    Attributes:
        name: as the user wrote it.
        bridge: the model behind TransformerLens's hooks. Its own tokenizer may add tokens; give
            it token ids, never strings.
        tokenizer: the Hugging Face tokenizer.
        bos_id: the token that goes in front of every prompt; None: nothing does.
        bos_rule: where `bos_id` comes from.
        digest: what identifies the weights, see `model_digest`.
        content: sha256 of what was read: of a hub model, whose digest is the name of a commit, that
            of the commit's files as they are here; else `digest` itself.
        dtype: one of `bench.models.bridge.DTYPES`.
        device: where it is ("cpu", "cuda", "cuda:1", ...), never "auto".
        packed_layers: how many linear layers run from packed weights, see `bench.models.packed`.
        limits: the longest prompt and the largest token id that it takes.
        circuits: of a planted model, counterfactual -> what carries its effect.
    """

    name: str
    bridge: "TransformerBridge"
    tokenizer: Any
    bos_id: int | None
    bos_rule: str
    digest: str
    content: str
    dtype: str
    device: str
    packed_layers: int = 0
    limits: Limits = NO_LIMITS
    circuits: "Mapping[str, Circuit]" = field(default_factory=dict)


def load_model(
    name: str,
    *,
    dtype: str = "float32",
    device: str = "auto",
    packed: bool = True,
    bos: str | None = None,
    cache_dir: Path | None = None,
) -> LoadedModel:
    """Load a model: a name of `MODELS`, a hub id ("owner/name") or a local directory.

    The directory of an adapter (LoRA) is loaded with its base, and merged into it. A planted model
    has a seed behind its name: `planted-lookup-3`. Code that comes with a model is never run.

    Args:
        name: what to load.
        dtype: one of `bench.models.bridge.DTYPES`; float32 is what the suite is tested with.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:N" or "mps".
        packed: let linear layers on the CPU run from oneDNN's packed weights.
        bos: the token that goes in front of every prompt, or "none"; None: the rule of
            `bench.models.tokenizer.bos_of`.
        cache_dir: where the embedded model is kept instead of `embedded.default_cache()`.

    Raises:
        UserInputError: unknown name, dtype or device, no hub at hand, a damaged file, or a model
            that transformers or TransformerLens cannot read.
    """
    if dtype not in DTYPES:
        raise UserInputError(f'Unknown dtype "{dtype}".{nearest(dtype, DTYPES)}')
    if name in IN_MEMORY:
        return IN_MEMORY[name].load()
    _source(name)  # a wrong name is said before torch is imported to look for devices
    place = resolve_device(device)
    circuits: Mapping[str, Circuit] = {}
    if planted_name(name):
        from bench.models.planted.model import planted_bridge

        digest = content = model_digest(name)
        bridge, tokenizer, circuits = planted_bridge(name, dtype, place)
    else:
        folder = _folder(name, cache_dir)
        base = _base_folder(name, folder, cache_dir)
        digest, content = _digests(name, folder, base)  # before anything in it is read
        tokenizer = _tokenizer_in(name, folder, base)
        change = folder if base else None
        bridge = read_bridge(name, base or folder, tokenizer, dtype, place, adapter=change)
    bos_id, bos_rule = bos_of(tokenizer, _stated_bos(name) if bos is None else bos, name)
    limits = limits_of(bridge.original_model.config)
    check_bos(name, bos_id, limits)
    from bench.models.packed import keep_freed_memory, pack_linear_layers

    layers = pack_linear_layers(bridge.original_model) if packed else 0
    if place == "cpu":
        keep_freed_memory()
    return LoadedModel(
        *(name, bridge, tokenizer, bos_id, bos_rule, digest, content, dtype, place, layers, limits),
        circuits=circuits if bos_id == 0 else {},  # whose positions count the BOS
    )


def load_tokenizer(name: str, cache_dir: Path | None = None) -> tuple[Any, int | None]:
    """Return a model's tokenizer and BOS id, as `load_model` gives them, without its weights."""
    if planted_name(name):
        from bench.models.planted.model import planted_tokenizer

        tokenizer = planted_tokenizer()
    else:
        folder = _folder(name, cache_dir, weights=False)
        tokenizer = _tokenizer_in(name, folder, _base_folder(name, folder, cache_dir))
    return tokenizer, bos_of(tokenizer, _stated_bos(name), name)[0]


def load_limits(name: str, cache_dir: Path | None = None) -> Limits:
    """Return what prompts a model takes, by its configuration alone; planted ones take any."""
    if planted_name(name):
        return NO_LIMITS
    folder = _folder(name, cache_dir, weights=False)
    return limits_in(name, _base_folder(name, folder, cache_dir) or folder)


def _tokenizer_in(name: str, folder: Path, base: Path | None) -> Any:
    """The tokenizer of a model's folder; that of an adapter without one is its base's."""
    own = any(folder.glob("tokenizer*"))
    return read_tokenizer(name, folder if own or base is None else base)


def model_digest(name: str) -> str:
    """Return what identifies a model's weights, without loading torch.

    The embedded model: the digest of its tensors that is written in the code. A local directory:
    the sha256 over its configuration, tokenizer and weights; that of an adapter with its base's. A
    hub model: the hash of its commit. A planted one: family, seed and version of what
    wires it, since rounding differs between machines; a trained one: the sha256 of its file.

    Raises:
        UserInputError: as in `load_model`.
    """
    if is_trained(name):
        return trained_digest(name)
    if planted := planted_name(name):
        return hashlib.sha256(f"planted {planted} {PLANTED_VERSION}".encode()).hexdigest()
    if name in IN_MEMORY:
        return IN_MEMORY[name].digest
    source = _source(name)
    if source is None:
        return WEIGHTS_DIGEST
    if isinstance(source, str):
        return hub_commit(name, source)
    base = adapter.base_of(name, source)
    own = folder_digest(source)
    return own if base is None else _joined(own, model_digest(base))


def stated_of(name: str) -> dict[str, str]:
    """Return what decides a model's numbers beside its files, of `STATED` what there is.

    Nothing where all is known by `model_digest`: then the BOS follows from the tokenizer.
    """
    entry = MODELS.get(name)
    if entry is None:
        return {}
    bos = {} if entry.bos is None else {"bos": entry.bos}
    return {**bos, **({"plugin": entry.version} if entry.version else {})}


def _source(name: str) -> Path | str | None:
    """Where a model comes from: a local directory, a hub id, or None for what needs neither."""
    if is_trained(name):
        trained_digest(name)
    if planted_name(name):
        return None
    if name in MODELS and MODELS[name].folder is None:
        return MODELS[name].hub_id
    entry = MODELS.get(name)
    path = (entry.folder if entry else None) or Path(os.path.expanduser(name))
    if path.is_dir():
        if not any((path / config).is_file() for config in ("config.json", adapter.CONFIG)):
            raise UserInputError(
                f'Model "{name}": the directory has no config.json. A model directory is what '
                "`save_pretrained` of model and tokenizer writes."
            )
        return path
    if entry is not None:
        raise UserInputError(
            f'Model "{name}" of {entry.origin}: there is no directory {path}, where it should be.'
        )
    if name.startswith((".", "/", "~")):
        raise UserInputError(f'Model "{name}": there is no such directory.')
    if HUB_ID.fullmatch(name.partition("@")[0]) and "@" in name:
        raise UserInputError(
            f'Model "{name}": a hub id is taken without a revision, as the newest commit. In a '
            "matrix the key `digest` of a model says which commit that has to be."
        )
    if "@" in name:
        raise UserInputError(
            f'Model "{name}" was in the memory of the process that computed with it. Give it to '
            "`bench.compare` again, or save it in a folder and name that."
        )
    if not HUB_ID.fullmatch(name):
        raise UserInputError(
            f'Unknown model "{name}".{nearest(name, MODELS)} A hub id ("owner/name") or a local '
            "directory is taken as well."
        )
    return name


def _stated_bos(name: str) -> str | None:
    return MODELS[name].bos if name in MODELS else None


def _folder(name: str, cache_dir: Path | None, *, weights: bool = True) -> Path:
    source = _source(name)
    if source is None:
        return embedded_folder(cache_dir, weights=weights)
    if isinstance(source, str):
        return hub_folder(name, source, weights=weights)
    return source


def _base_folder(name: str, folder: Path, cache_dir: Path | None) -> Path | None:
    """The folder of the model that an adapter changes; None where `folder` is no adapter's.

    Raises:
        UserInputError: if that cannot be had, or is an adapter itself.
    """
    base = adapter.base_of(name, folder)
    if base is None:
        return None
    try:
        found = _folder(base, cache_dir)
        if adapter.base_of(base, found) is not None:
            raise UserInputError("that is an adapter too; merge it into its own base first.")
    except UserInputError as error:
        raise UserInputError(f'Model "{name}" is an adapter of "{base}": {error}') from error
    return found


def _digests(name: str, folder: Path, base: Path | None = None) -> tuple[str, str]:
    """`model_digest` of what was loaded from `folder`, though the hub may have moved on; content.

    Raises:
        UserInputError: if a file of the hub's is not what the hub sent.
    """
    if isinstance(_source(name), str):
        return folder.name, folder_digest(folder, checked_files(name, folder))
    if base is not None:
        own = folder_digest(folder)
        digest, content = _digests(str(adapter.base_of(name, folder)), base)
        return _joined(own, digest), _joined(own, content)
    digest = model_digest(name)
    return digest, digest


def _joined(own: str, base: str) -> str:
    """The digest of an adapter with that of the model that it changes."""
    return hashlib.sha256(f"{own} {base}".encode()).hexdigest()
