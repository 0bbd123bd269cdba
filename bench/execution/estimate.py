"""About how long cells take: the rows that go through the model, at the pace of finished cells.

A row is one prompt through one forward from the start. Neither the model nor its tokenizer is
loaded to count them: a model's configuration says its layers, and words stand for tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.matrix.cells import PlannedCell
from bench.matrix.stages import ONE_POINT, PRICE_CURVE
from bench.models.embedded import WEIGHTS_DIGEST
from bench.models.load import MODELS
from bench.store.records import CellRecord
from methods import METHODS
from methods.core.points import HEAD_SITES, Site
from tasks.errors import UserInputError
from tasks.task import Task

SECONDS_A_ROW: Mapping[tuple[str, str], float] = {(WEIGHTS_DIGEST, "cpu"): 0.033}
"""By the model's digest and the kind of device, before any cell is done; on two cores."""
BACKWARD, PATCHED = 1.4, 0.3
"""What a backward costs, and a forward that is resumed where it is patched, in rows."""
TUNED_STRENGTHS, EVALUATIONS_OF_K, NOISE_DRAWS, EPOCHS = 22, 8, 10, 25
"""How often tuning, the smallest k, Gaussian noise and training run every train prompt; about."""
LAYERS = {"smollm2-135m": (30, 9), "gpt2": (12, 12), "gpt2-xl": (48, 25), "pythia-1.4b": (24, 16)}
"""Layers and heads of the suite's own models, which need not be on this machine."""
CIRCUITS = 28
"""Runs a test prompt of the circuits of both orders, with those of all other nodes; about."""
COARSE_ROWS, PRICED_STRENGTHS, FURTHER_PRICE = 18, 4.5, 3
"""Rows of a coarse look for a price; strengths that it runs every train prompt at then, with both
signs; and every further price."""
ANY_LAYERS, ANY_LENGTH = (12, 12), (24, 16)
"""Of a model that is not here, and of a task that gives no prompts."""


def estimated_seconds(
    cells: Sequence[PlannedCell], finished: Iterable[CellRecord] = ()
) -> float | None:
    """About how long `cells` take in one process; None where nothing is known of a model.

    Args:
        cells: what is to be computed.
        finished: stored cells, of these models or others, on the same kind of device or others.
    """
    pace, rows, total = _pace(finished), estimated_rows(cells), 0.0
    for cell in cells:
        model = cell.settings["model"]
        seconds = pace.get(_content(model)) or SECONDS_A_ROW.get((model["digest"], model["device"]))
        if seconds is None:
            return None
        total += seconds * rows[cell.id]
    return total


def estimated_rows(cells: Sequence[PlannedCell]) -> dict[str, float]:
    """About the rows that computing each of the cells takes, by id."""
    layers = {name: _layers(name) for name in {cell.model.name for cell in cells}}
    patched = [
        cell.task
        for cell in cells
        if type(cell.method.method).runs_every_point or cell.stages.one_point
    ]
    lengths = {
        task.label: _length(task.task) for task in {one.label: one for one in patched}.values()
    }
    return {
        cell.id: _evaluated(cell)
        + _fitted(cell, of_model, length, cell.prompts.train)
        + _checked(cell, of_model, length)
        for cell in cells
        for of_model in [layers[cell.model.name]]
        for length in [lengths.get(cell.task.label, ANY_LENGTH)]
    }


def _evaluated(cell: PlannedCell) -> float:
    """The rows of all that comes after the method's own."""
    train, test, method = cell.prompts.train, cell.prompts.test, cell.method.method
    tests = test + cell.prompts.shifted
    rows: float = 2 * (train + tests) if method.trained else 4 * tests + TUNED_STRENGTHS * train
    if cell.stages.verdicts_alone:
        rows = 0
    rows += 4 * test * len(cell.transfer)
    sweep = cell.stages.sweep
    rows += 2 * sweep.prompts * (sweep.points - 1) if sweep else 0
    rows += 2 * EVALUATIONS_OF_K * train if cell.stages.smallest_k else 0
    sizes: int = cell.stages.sparsity.points
    return rows + sizes * (TUNED_STRENGTHS * train + 2 * test) + _priced(cell)


def _priced(cell: PlannedCell) -> float:
    """The rows of what is measured at prices."""
    train, test, stages = cell.prompts.train, cell.prompts.test, cell.stages
    one_price = COARSE_ROWS + 2 * PRICED_STRENGTHS * train
    at = len(stages.prices.at)
    rows = 2.0 * at * (test + cell.prompts.shifted)
    rows += one_price + (at - 1) * 2 * FURTHER_PRICE * train if at else 0
    if stages.prices.curve:
        rows += 2 * len(PRICE_CURVE) * (FURTHER_PRICE * train + test)
    rows += len(stages.localisation.k) * (one_price + 2 * test)
    retrained = stages.retrained
    matched = 0 if cell.method.method.control else 2 * retrained.draws
    supports: int = len(retrained.k) * (1 + matched)
    steps: float = 2 * (1 + BACKWARD) * retrained.steps * min(retrained.train, train)
    rows += supports * (steps + one_price + 2 * test)
    return rows + (CIRCUITS + 2 * stages.circuit.draws) * test if stages.circuit else rows


def _checked(cell: PlannedCell, layers: tuple[int, int], length: tuple[int, int]) -> float:
    """The rows of further fits, of prompts elsewhere, and of single points."""
    rows = 0.0
    if sanity := cell.stages.sanity:
        maps = 2 if cell.method.method.trained else 2 + sanity.depths
        prompts = min(sanity.prompts, cell.prompts.train)
        rows += maps * _fitted(cell, layers, length, prompts, sanity.positions)
    if specificity := cell.stages.specificity:
        prompts = min(specificity.prompts, cell.prompts.test) * (1 + len(cell.elsewhere))
        rows += 2 * prompts + 3 * specificity.windows
    if one := cell.stages.one_point:
        runs = 2 * len(ONE_POINT) * min(one.prompts, cell.prompts.test)
        rows += runs * _points(cell, layers, length[0])
    return rows


def _fitted(
    cell: PlannedCell,
    layers: tuple[int, int],
    length: tuple[int, int],
    train: int,
    at_most: int | None = None,
) -> float:
    """The rows of a fit.

    Args:
        cell: whose method is fitted.
        layers: and heads of the model.
        length: of a prompt, and from its first corrupted word on.
        train: prompts.
        at_most: positions of a method that runs every point.
    """
    settings, method = cell.settings["method"], cell.method.method
    if method.control:
        return 0.0
    if method.trained:
        own = settings.get("epochs")
        epochs = [own if isinstance(own, int) else EPOCHS]
        epochs += [one.epochs or epochs[0] for one in cell.stages.select]
        judged = len(cell.stages.select) * COARSE_ROWS
        return 2 * (1 + BACKWARD) * train * sum(epochs) + judged
    corruption = settings.get("corruption")
    contrasts = train * (NOISE_DRAWS if corruption == "gaussian" else 1)
    if not method.runs_every_point:
        runs = method.gradient_runs(layers[0], len(cell.settings["sites"]))
        return contrasts * (runs * (1 + BACKWARD) + (corruption is not None))
    reached = length[1] if corruption in ("counterfactual", "mean") else length[0]
    return PATCHED * contrasts * _points(cell, layers, reached, at_most)


def _points(
    cell: PlannedCell, layers: tuple[int, int], length: int, at_most: int | None = None
) -> int:
    """The points of a cell's grid, on prompts of so many words, at no more positions than that."""
    chosen = cell.settings["positions"]
    positions = {"all": length, "every": length, "last": 1}.get(str(chosen), len(chosen))
    positions = min(positions, at_most or positions)
    sites = [layers[1] if Site(site) in HEAD_SITES else 1 for site in cell.settings["sites"]]
    return sum(sites) * layers[0] * positions


def _layers(name: str) -> tuple[int, int]:
    """Layers and heads of a model, from its configuration where that is on this machine."""
    if name in LAYERS:
        return LAYERS[name]
    folder = MODELS[name].folder if name in MODELS else None
    try:
        config = json.loads(
            ((folder or Path(name).expanduser()) / "config.json").read_text("utf-8")
        )
        config = config.get("text_config", config)
        layers = next(config[key] for key in ("num_hidden_layers", "n_layer") if key in config)
        heads = next(config[key] for key in ("num_attention_heads", "n_head") if key in config)
        return int(layers), int(heads)
    except (OSError, ValueError, AttributeError, TypeError, StopIteration):
        return ANY_LAYERS


def _length(task: Task) -> tuple[int, int]:
    """Words of a task's first prompt, and how many there are from the first corrupted one on."""
    try:
        pair = next(iter(task.candidates("train", list(task.entities()), 0)))
    except Exception:  # an estimate is no place to say what is wrong with somebody's task
        return ANY_LENGTH
    words = pair.clean.split()
    alike = zip(words, pair.corrupted.split(), strict=False)
    same = next((at for at, (one, other) in enumerate(alike) if one != other), 0)
    return len(words), len(words) - same


def _pace(finished: Iterable[CellRecord]) -> dict[str, float]:
    """Seconds a row on each model, over all its finished cells."""
    spent: dict[str, tuple[float, float]] = {}
    for cell in finished:
        try:
            method = METHODS[cell.settings["method"]["name"]].load()
            model, passes = _content(cell.settings["model"]), cell.provenance["passes"]
            patched = passes["fit_forward_rows"] if method.runs_every_point else 0
            rows = passes["forward_rows"] - (1 - PATCHED) * patched
            rows += BACKWARD * passes["backward_rows"]
        except (KeyError, UserInputError):  # it failed, is older, or of a plug-in that is not here
            continue
        before = spent.get(model, (0.0, 0.0))
        spent[model] = before[0] + cell.seconds, before[1] + rows
    return {model: sum_of / rows for model, (sum_of, rows) in spent.items() if sum_of > 0 < rows}


def _content(model: Mapping[str, Any]) -> str:
    """All that decides a model's numbers; not what it is called."""
    return json.dumps({**model, "name": ""}, sort_keys=True)
