"""Fitted interventions on disk: out of a stored cell, and as a safetensors file with a header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.store.cells import Cell, Tensors
from bench.store.files import replace_file
from bench.store.records import CellRecord, GridRecord
from methods.core.channel_scaling import ChannelScaling
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.gated_editing import GatedEditing
from methods.core.hidden_scaling import ACTIVATIONS, HiddenScaling
from methods.core.intervention import Intervention
from methods.core.points import NARROW_SITES, Heads, PointGrid, Site
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from tasks.errors import UserInputError

FORMAT = 1


class Kind(NamedTuple):
    """A kind of interventions that can be taken elsewhere.

    Attributes:
        of: the class, made of a grid and the tensors in this order.
        tensors: what its parameters are called; the last has an entry a point, or a gate.
        settings: what else it is made of, by name.
    """

    of: type[Any]
    tensors: tuple[str, ...]
    settings: Mapping[str, str] = {}


KINDS: Mapping[str, Kind] = {
    "static_scaling": Kind(StaticScaling, ("alpha",)),
    "steering_vectors": Kind(SteeringVectors, ("vectors",)),
    "dynamic_scaling": Kind(DynamicScaling, ("gates",)),
    "channel_scaling": Kind(ChannelScaling, ("vectors",)),
    **{
        f"hidden_{name}_scaling": Kind(HiddenScaling, ("gates", "outer"), {"activation": name})
        for name in ACTIVATIONS
    },
    "gated_editing": Kind(GatedEditing, ("vectors", "scales", "log_alpha")),
}
"""By the name in a file."""
HEADER = "attribution_bench"
UNKNOWN = 0
"""The width of a head, where scalars do not need it."""


def intervention_of(cell: Cell) -> Intervention:
    """What a stored cell steers with.

    Raises:
        UserInputError: if the cell failed, or is of a kind that cannot be taken elsewhere.
    """
    record, tensors = cell.record, cell.tensors
    if record.grid is None or not record.prompts.get("train"):
        raise UserInputError(f"{record.id} failed, so there is nothing to steer with.")
    kind = KINDS[_stored_kind(record, tensors)]
    parameters = [torch.from_numpy(tensors[f"intervention.{name}"].copy()) for name in kind.tensors]
    misfit = _misfit(kind, parameters, record.grid.shape)
    if misfit:
        raise UserInputError(f"{record.id}: {misfit} do not fit its grid.")
    grid = _grid(record, record.grid, kind, parameters)
    return _build(kind, grid, parameters)


def kind_of(intervention: Intervention) -> str:
    """The name in `KINDS`; of an intervention of a plug-in's own its module and class."""
    of = type(intervention)
    for name, kind in KINDS.items():
        stated = {key: getattr(intervention, key, None) for key in kind.settings}
        if of is kind.of and stated == kind.settings:
            return name
    return f"{of.__module__}:{of.__qualname__}"


def _stored_kind(record: CellRecord, tensors: Tensors) -> str:
    """The name in `KINDS` of what a cell steers with.

    Raises:
        UserInputError: if it is of another kind: only its method knows what that does.
    """
    holds = [
        name
        for name, kind in KINDS.items()
        if all(f"intervention.{tensor}" in tensors for tensor in kind.tensors)
    ]
    if record.intervention == "" and holds:  # stored before records said it
        return holds[0]
    if record.intervention in holds:
        return record.intervention
    if ":" in record.intervention:
        title = record.intervention.rpartition(":")[2]
        raise UserInputError(
            f'{record.id} steers with "{title}", an intervention of its method\'s own. What that '
            f"does is in the method's code alone; {', '.join(KINDS)} can be taken elsewhere."
        )
    raise UserInputError(f"{record.id} holds no intervention that is known here.")


def save_intervention(
    intervention: Intervention, file: Path, about: Mapping[str, object] | None = None
) -> None:
    """Writes an intervention as safetensors, its grid and what it is about in a JSON header.

    Raises:
        UserInputError: for an intervention of another kind than the suite's own, and a file that
            cannot be written.
    """
    name = kind_of(intervention)
    if name not in KINDS:
        raise UserInputError(
            f"{type(intervention).__name__} is of no kind that a file can hold: it can hold "
            f"{', '.join(KINDS)}, and not what is made from them."
        )
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
    tensors = {
        one: getattr(intervention, one).detach().float().cpu().contiguous()
        for one in KINDS[name].tensors
    }
    try:
        content = save(tensors, metadata={HEADER: json.dumps(header)})
        replace_file(file, content)
    except (OSError, SafetensorError) as error:
        missing = "" if file.parent.is_dir() else f"; there is no folder {file.parent}"
        raise UserInputError(f"{file} cannot be written{missing} ({error}).") from None


def load_intervention(file: str | Path) -> Intervention:
    """Reads an intervention that `save_intervention` wrote.

    Raises:
        UserInputError: if the file is not there or holds anything else.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            header = json.loads((stored.metadata() or {})[HEADER])
            kind = KINDS[header["kind"]]
            parameters = [stored.get_tensor(name) for name in kind.tensors]
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        stated = header["grid"]
        heads = None if stated["heads"] is None else Heads(**stated["heads"])
        sites = tuple(Site(site) for site in stated["sites"])
        grid = PointGrid(
            **{**stated, "sites": sites, "positions": tuple(stated["positions"]), "heads": heads}
        )
        misfit = _misfit(kind, parameters, grid.shape)
        if misfit:
            raise ValueError(misfit)
        return _build(kind, grid, parameters)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, UserInputError):
            raise
        raise UserInputError(
            f"{file} is no intervention of the suite ({type(error).__name__}: {error}). "
            "`python -m bench export CELL FILE` writes one."
        ) from None


def _misfit(kind: Kind, parameters: Sequence[Tensor], shape: tuple[int, ...]) -> str:
    """Which parameters do not fit a grid's shape (place, layer, position); "" if all do."""
    expected = shape[:2] if issubclass(kind.of, DynamicScaling) else shape
    if tuple(parameters[-1].shape[: len(expected)]) == tuple(expected):
        return ""
    return f"{kind.tensors[-1]} of shape {tuple(parameters[-1].shape)}"


def _grid(
    record: CellRecord, stored: GridRecord, kind: Kind, parameters: Sequence[Tensor]
) -> PointGrid:
    """The points that a cell's parameters belong to."""
    counts = {Site(site): count for site, count in stored.heads.items()}
    queries = counts.get(Site.Z) or counts.get(Site.O) or counts.get(Site.Q) or 1
    shared = counts.get(Site.V) or counts.get(Site.K) or queries
    heads = Heads(queries, shared, UNKNOWN) if counts else None
    grid = PointGrid(
        tuple(Site(site) for site in stored.sites),
        stored.n_layers,
        tuple(stored.positions),
        len(record.prompts["train"][0].token_ids),
        not stored.excluded,
        record.provenance.get("bos_id") is not None,
        heads,
    )
    if heads is None or kind.of is StaticScaling:
        return grid
    return replace(grid, heads=replace(heads, d_head=_d_head(record, grid, kind, parameters)))


def _d_head(record: CellRecord, grid: PointGrid, kind: Kind, parameters: Sequence[Tensor]) -> int:
    """The width of a head: what is left of the parameters that the cell counted, a head's point.

    Raises:
        UserInputError: if the cell's count does not fit its parameters.
    """
    included = grid.included.sum(dim=(1, 2)).tolist()
    points = [count * (2 if kind.of is GatedEditing else 1) for count in included]
    if issubclass(kind.of, DynamicScaling):
        units = parameters[0].shape[2] if kind.of is HiddenScaling else 1
        points = [grid.n_layers * units] * len(grid.places)
    narrow = [place.site in NARROW_SITES for place in grid.places]
    width = int(parameters[0].shape[-1])
    if all(narrow) or not any(narrow):
        return width if all(narrow) else UNKNOWN
    wide = sum(count for count, own in zip(points, narrow, strict=True) if not own) * width
    counted = record.minimality.n_parameters if record.minimality else 0
    d_head, rest = divmod(counted - wide, sum(points) - wide // width)
    if rest or not 0 < d_head <= width:
        raise UserInputError(
            f"{record.id} counts {counted} parameters, which do not fit its heads of any width."
        )
    return int(d_head)


def _build(kind: Kind, grid: PointGrid, parameters: Sequence[Tensor]) -> Intervention:
    found: Intervention = kind.of(grid, *parameters, **kind.settings)
    return found.requires_grad_(False)
