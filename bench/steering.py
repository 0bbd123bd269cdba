"""A fitted intervention taken elsewhere: as a file, and at work on any model of its kind.

    from bench.steering import load_intervention, steered

    intervention = load_intervention("activ_scalar.safetensors")
    with steered(model, intervention, beta=1.5):
        model.generate(**tokenizer(prompt, return_tensors="pt"))

`model` is a TransformerBridge or a plain Hugging Face causal LM; it is left as it was found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.bridge import boot_bridge
from bench.quiet import quiet_transformers
from bench.records import GridRecord
from bench.results import Cell
from bench.tiny import tiny_tokenizer
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hooks import layer_hooks
from methods.core.intervention import Intervention
from methods.core.points import HEAD_SITES, Heads, PointGrid, Site
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from tasks.errors import UserInputError

FORMAT = 1
KINDS: Mapping[str, tuple[type[Any], str]] = {
    "static_scaling": (StaticScaling, "alpha"),
    "steering_vectors": (SteeringVectors, "vectors"),
    "dynamic_scaling": (DynamicScaling, "gates"),
}
"""Name in a file -> class, and what its parameters are called."""
HEADER = "attribution_bench"
OWN_PARTS = ("_modules", "_parameters", "_buffers")
"""What a bridge changes of a Hugging Face model's modules."""


def intervention_of(cell: Cell) -> Intervention:
    """What a stored cell steers with.

    Raises:
        UserInputError: if the cell failed, or is of a kind that cannot be taken elsewhere.
    """
    record, tensors = cell.record, cell.tensors
    if record.grid is None:
        raise UserInputError(f"{record.id} failed, so there is nothing to steer with.")
    length = len(record.prompts["train"][0].token_ids)
    keep = not record.grid.excluded
    has_bos = record.provenance.get("bos_id") is not None
    for kind, name in KINDS.values():
        if f"intervention.{name}" in tensors:
            parameters = torch.from_numpy(tensors[f"intervention.{name}"].copy())
            grid = _grid(record.grid, length, keep, has_bos, parameters)
            return _build(kind, grid, parameters)
    raise UserInputError(f"{record.id} holds no intervention that is known here.")


def save_intervention(
    intervention: Intervention, file: Path, about: Mapping[str, object] | None = None
) -> None:
    """Writes an intervention as safetensors, its grid and what it is about in a JSON header.

    Raises:
        UserInputError: for an intervention of another kind than the suite's own.
    """
    known = {kind: (name, parameters) for name, (kind, parameters) in KINDS.items()}
    if type(intervention) not in known:
        raise UserInputError(f"{type(intervention).__name__} is of no kind that a file can hold.")
    name, parameters = known[type(intervention)]
    grid = intervention.grid
    header = {
        "format": FORMAT,
        "kind": name,
        "grid": {
            "sites": [site.value for site in grid.sites],
            "n_layers": grid.n_layers,
            "positions": list(grid.positions),
            "n_positions": grid.n_positions,
            "keep_final_residual": grid.keep_final_residual,
            "has_bos": grid.has_bos,
            "heads": None if grid.heads is None else vars(grid.heads),
        },
        "about": dict(about or {}),
    }
    tensor = getattr(intervention, parameters).detach().float().cpu().contiguous()
    save_file({parameters: tensor}, file, metadata={HEADER: json.dumps(header)})


def load_intervention(file: str | Path) -> Intervention:
    """Reads an intervention that `save_intervention` wrote.

    Raises:
        UserInputError: if the file is not there or holds anything else.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            header = json.loads((stored.metadata() or {})[HEADER])
            kind, name = KINDS[header["kind"]]
            parameters = stored.get_tensor(name)
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        stated = header["grid"]
        heads = None if stated["heads"] is None else Heads(**stated["heads"])
        sites = tuple(Site(site) for site in stated["sites"])
        grid = PointGrid(
            **{**stated, "sites": sites, "positions": tuple(stated["positions"]), "heads": heads}
        )
        expected = grid.shape[:2] if kind is DynamicScaling else grid.shape
        if tuple(parameters.shape[: len(expected)]) != expected:
            raise ValueError(f"{name} of shape {tuple(parameters.shape)}")
        return _build(kind, grid, parameters)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserInputError):
            raise
        raise UserInputError(
            f"{file} is no intervention of the suite ({type(error).__name__}: {error}). "
            "`python -m bench export CELL FILE` writes one."
        ) from None


def _grid(
    stored: GridRecord, n_positions: int, keep_final: bool, has_bos: bool, parameters: Tensor
) -> PointGrid:
    sites = tuple(Site(site) for site in stored.sites)
    heads = None
    if HEAD_SITES.intersection(sites):
        counts = {Site(site): count for site, count in stored.heads.items()}
        queries = counts.get(Site.Z) or counts.get(Site.O) or 1
        heads = Heads(queries, counts.get(Site.V, queries), int(parameters.shape[-1]))
    return PointGrid(
        sites, stored.n_layers, tuple(stored.positions), n_positions, keep_final, has_bos, heads
    )


def _build(kind: type[Any], grid: PointGrid, parameters: Tensor) -> Intervention:
    if kind is not StaticScaling and HEAD_SITES.intersection(grid.sites):
        raise UserInputError(
            "Vectors and gates at head-level sites cannot be taken elsewhere yet: their width "
            "is the model's own. Scalars can."
        )
    found: Intervention = kind(grid, parameters)
    return found.requires_grad_(False)


@dataclass
class _Forward:
    """What a forward of the model is about: how many tokens it has seen before."""

    past: int = 0
    first: bool = True


class SteeredForward:
    """The `Edit` of whatever forward comes: a prompt, or what is generated behind it.

    Scalars and vectors belong to the positions of prompts of one length, and leave what is
    generated behind it alone; the prompt's activations stay as they were edited, in the cache.
    Gates that were trained at all positions act at every position, whatever the length.
    """

    def __init__(self, intervention: Intervention, beta: float) -> None:
        self.intervention, self.beta = intervention, beta
        self.points = intervention.grid.site_layers
        self.forward = _Forward()
        grid = intervention.grid
        everywhere = len(grid.positions) >= grid.n_positions - 1
        self.any_length = isinstance(intervention, DynamicScaling) and everywhere

    def starts(self, past: int, tokens: int) -> None:
        """A forward over `tokens` tokens behind `past` others.

        Raises:
            UserInputError: for a prompt of another length than the intervention was made for.
        """
        needed = self.intervention.grid.n_positions
        if self.forward.first and not self.any_length and (past or tokens != needed):
            raise UserInputError(
                f"The intervention was made for prompts of {needed} tokens, and this one has "
                f"{past + tokens}. Scalars and vectors belong to positions; dynamic scalars take "
                "any length."
            )
        self.forward = _Forward(past, False)

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation after the intervention."""
        past, length = self.forward.past, h.shape[1]
        grid = self.intervention.grid
        beta = torch.full((len(h),), self.beta, device=h.device)
        if not self.any_length:
            if past:
                return h
            head, rest = h[:, : grid.n_positions], h[:, grid.n_positions :]
            edited = self.intervention.bind(beta, 0)(site, layer, head)
            return torch.cat([edited, rest], dim=1) if rest.shape[1] else edited
        bos = grid.has_bos and past == 0
        here = replace(
            grid,
            positions=tuple(range(int(bos), length)),
            n_positions=length,
            has_bos=bos,
            keep_final_residual=grid.keep_final_residual or past > 0,
        )
        if not here.positions:
            return h
        moved = self.intervention.on(here)
        assert moved is not None
        return moved.to(h.device).bind(beta, 0)(site, layer, h)


@contextmanager
def steered(model: Any, intervention: Intervention, beta: float) -> Iterator[None]:
    """Has every forward of `model` in the block run under the intervention.

    Args:
        model: a TransformerBridge, or a Hugging Face causal LM; one sequence length a batch, no
            padding. Within the block only one thread may use it.
        intervention: what is done.
        beta: how strongly; 0 leaves every logit as it is.

    Raises:
        UserInputError: for a model that TransformerLens cannot read, or whose layers are others
            than the intervention's; in a forward, for a prompt of the wrong length.
    """
    with ExitStack() as stack:
        bridge = model if hasattr(model, "original_model") else stack.enter_context(_bridged(model))
        layers, needed = int(bridge.cfg.n_layers), intervention.grid.n_layers
        if layers != needed:
            raise UserInputError(
                f"The intervention is for a model of {needed} layers; this one has {layers}."
            )
        device = next(iter(bridge.original_model.parameters())).device
        edit = SteeredForward(intervention.to(device), beta)

        def note(module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            cache = options.get("past_key_values")
            past = 0 if cache is None else int(cache.get_seq_length())
            edit.starts(past, _length(arguments, options))

        handle = bridge.original_model.register_forward_pre_hook(note, with_kwargs=True)
        stack.callback(handle.remove)
        hooks = [pair for layer in range(layers) for pair in layer_hooks(edit, layer)]
        stack.enter_context(bridge.hooks(fwd_hooks=hooks))
        yield


def _length(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    tokens = options.get("input_ids")
    if tokens is None:
        tokens = arguments[0] if arguments else options.get("inputs_embeds")
    assert tokens is not None
    return int(tokens.shape[1])


@contextmanager
def _bridged(model: Any) -> Iterator[Any]:
    """A bridge around a Hugging Face model, which is itself again when the block ends."""
    modules = {
        module: [dict(getattr(module, part)) for part in OWN_PARTS] for module in model.modules()
    }
    frozen = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    attention, training = model.config._attn_implementation, model.training
    try:
        model.set_attn_implementation("eager")
        with quiet_transformers():
            bridge = boot_bridge(model, tiny_tokenizer(), type(model).__name__)
        yield bridge
    finally:
        for module, parts in modules.items():
            for part, content in zip(OWN_PARTS, parts, strict=True):
                getattr(module, part).clear()
                getattr(module, part).update(content)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(frozen[name])
        model.set_attn_implementation(attention)
        model.train(training)
