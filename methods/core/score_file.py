"""Score files: one number for every head and MLP of a model, as circuit benchmarks exchange them.

The format is that of MIB (the library EAP-IG's graphs): a JSON object with

    {"cfg":   {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": false, "d_model": 768},
     "nodes": {"input": {"in_graph": false}, "a0.h0": {"in_graph": false, "score": 0.2}, "m0": ...},
     "edges": {}}

or the same as a dictionary of tensors in a `.pt` file, which is read without running anything in
it. A node without a score (or NaN) has none: MIB keeps it in every circuit. Nodes have no position.

Source: 'MIB: A Mechanistic Interpretability Benchmark' (Mueller et al. 2025).
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from methods.core.points import Place, Site
from tasks.errors import UserInputError, shown
from tasks.file_size import check_size

MAX_LAYERS = MAX_HEADS = 4096
NODE = re.compile(r"a(?P<layer>\d{1,4})\.h(?P<head>\d{1,4})|m(?P<mlp>\d{1,4})", re.ASCII)
WITHOUT_SCORE = ("input", "logits")
"""Nodes that are no points: the embeddings and the output."""


@dataclass(frozen=True)
class NodeScores:
    """What a score file holds.

    Attributes:
        n_layers, n_heads: of the model that it is about.
        d_model: width of that model; None where the file does not say.
        scores: node -> score, of those that have one: "a3.h5" is head 5 of layer 3, "m3" the MLP.
        digest: sha256 of the file.
    """

    n_layers: int
    n_heads: int
    d_model: int | None
    scores: Mapping[str, float]
    digest: str = ""


def node_name(place: Place, layer: int) -> str | None:
    """What the format calls a point's head or MLP; None where it has no name for it."""
    if place.site is Site.MLP_OUT:
        return f"m{layer}"
    return f"a{layer}.h{place.head}" if place.site in (Site.Z, Site.O) else None


def score_file(
    cfg: Mapping[str, int | bool], scores: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """The content of a JSON score file: every node of the model, those without a score too."""
    layers = range(int(cfg["n_layers"]))
    names = [f"a{layer}.h{head}" for layer in layers for head in range(int(cfg["n_heads"]))]
    names += [f"m{layer}" for layer in layers]
    nodes: dict[str, Any] = {"input": {"in_graph": False}}
    for name in names:
        known = {"score": scores[name]} if name in scores else {}
        nodes[name] = {"in_graph": False, **known}
    return {"cfg": dict(cfg), "nodes": nodes, "edges": {}}


def read_score_file(path: Path) -> NodeScores:
    """Reads a score file, JSON or `.pt`.

    Raises:
        UserInputError: for a file that cannot be read, is too large or is none; says what is wrong
            and where.
    """
    where = f'Score file "{path}"'
    check_size(path, where)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        read = _read_pt if path.suffix.lower() == ".pt" else _read_json
        cfg, nodes = read(path)
        n_layers, n_heads = _size(cfg, "n_layers", MAX_LAYERS), _size(cfg, "n_heads", MAX_HEADS)
        d_model = _size(cfg, "d_model", 2**31) if "d_model" in cfg else None
        scores = _scores(nodes, n_layers, n_heads)
    except (_BadFileError, OSError) as error:
        raise UserInputError(f"{where}: {error}.") from None
    return NodeScores(n_layers, n_heads, d_model, scores, digest)


class _BadFileError(Exception):
    """Why a file is no score file."""


def _read_json(path: Path) -> tuple[Mapping[str, Any], Iterable[tuple[str, object]]]:
    """The configuration, and every node with its score or None."""
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except RecursionError:
        raise _BadFileError("it is nested too deeply") from None
    except ValueError as error:
        raise _BadFileError(f"it is not JSON ({error})") from None
    parts = [_mapping(content, "the file").get(key) for key in ("cfg", "nodes", "edges")]
    missing = [k for k, part in zip(("cfg", "nodes", "edges"), parts, strict=True) if part is None]
    if missing:
        raise _BadFileError(f"it has no {', '.join(missing)}; it needs cfg, nodes and edges")
    cfg, nodes = _mapping(parts[0], "cfg"), _mapping(parts[1], "nodes")
    return cfg, ((name, _mapping(node, shown(name)).get("score")) for name, node in nodes.items())


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _BadFileError("a name stands twice in it")
    return found


def _read_pt(path: Path) -> tuple[Mapping[str, Any], Iterable[tuple[str, object]]]:
    """The same of a dictionary that torch saved; nothing but numbers and tensors is unpickled."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        kind = type(error).__name__
        raise _BadFileError(
            f"it holds more than numbers, or is no file of torch's ({kind})"
        ) from None
    content = _mapping(content, "the file")
    missing = [key for key in ("cfg", "src_nodes", "nodes_scores") if key not in content]
    if missing:
        raise _BadFileError(f"it has no {', '.join(missing)}: this reads scores of nodes alone")
    names, values = content["src_nodes"], content["nodes_scores"]
    if not isinstance(names, list | tuple) or not isinstance(values, torch.Tensor):
        raise _BadFileError("src_nodes has to be a list of names, and nodes_scores a tensor")
    if values.shape != (len(names),):
        raise _BadFileError(f"it has {len(names)} names and scores of shape {tuple(values.shape)}")
    return _mapping(content["cfg"], "cfg"), zip(names, values.double().tolist(), strict=True)


def _scores(
    nodes: Iterable[tuple[str, object]], n_layers: int, n_heads: int
) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for name, score in nodes:
        if name in WITHOUT_SCORE:
            continue
        parts = NODE.fullmatch(name) if isinstance(name, str) else None
        if parts is None:
            raise _BadFileError(f"{shown(name)} is no node; they are called a0.h0, m0, input")
        layer, head = int(parts["mlp"] or parts["layer"] or 0), int(parts["head"] or 0)
        if layer >= n_layers or head >= n_heads:
            raise _BadFileError(
                f"it names {name}, which a model of {n_layers} layers and {n_heads} heads has not"
            )
        if isinstance(score, bool) or not isinstance(score, int | float | None):
            raise _BadFileError(f"the score of {name} is {shown(score)}, which is no number")
        value = math.nan if score is None else _as_float(score)
        if math.isinf(value):
            raise _BadFileError(f"the score of {name} is infinite")
        if math.isnan(value):
            continue
        found[f"m{layer}" if parts["mlp"] else f"a{layer}.h{head}"] = value
    if not found:
        raise _BadFileError("no node has a score; scores of edges alone are not read")
    return found


def _as_float(score: int | float) -> float:
    try:
        return float(score)
    except OverflowError:
        return math.inf


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _BadFileError(f"{what} is {type(value).__name__}, not an object with names")
    return value


def _size(cfg: Mapping[str, Any], name: str, most: int) -> int:
    value = cfg.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _BadFileError(f"cfg.{name} is {shown(value)}; it has to be a number from 1 to {most}")
    return value
