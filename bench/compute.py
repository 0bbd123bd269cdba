"""One cell, from fit to record: fit, tune beta (untrained only), evaluate, sweep, count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from bench.beta import tune_beta
from bench.cells import PlannedCell
from bench.config import Sparsity, Sweep
from bench.evaluate import metric_row, minimality_of, strengths
from bench.models import LoadedModel
from bench.prepare import PreparedTask
from bench.provenance import Clock, environment, peak_memory
from bench.records import BetaRecord, CellRecord, MetricRow
from bench.response import Response
from bench.sparsity import sparsity_curve
from bench.split import Split, respond
from bench.transfer import evaluate_elsewhere
from methods import METHODS
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.static_scaling import StaticScaling
from methods.core.subject import Passes, SubjectModel
from methods.method import Attribution, Method, Setting
from tasks.errors import UserInputError

Tensors = dict[str, NDArray[Any]]


class BadScoresError(ValueError):
    """A method's scores cannot be used: its adapter is wrong, or the model gave no numbers."""


class UnsupportedSiteError(UserInputError):
    """A method cannot score one of the grid's sites."""


class SeveralLengthsError(UserInputError):
    """A method that is tied to positions is given prompts of several lengths."""


SWEPT_SPLITS = ("train", "test")


def compute_cell(
    cell: PlannedCell,
    model: LoadedModel,
    subject: SubjectModel,
    task: PreparedTask,
    objective: Objective,
    sweep: Sweep,
    sparsity: Sparsity,
    parent_scores: Float[Tensor, "place layer position"] | None,
    others: Mapping[str, PreparedTask] = MappingProxyType({}),
) -> tuple[CellRecord, Tensors]:
    """Computes a cell.

    Args:
        cell: what to compute.
        model: the model as loaded, for its tokenizer and digest.
        subject: the same model as methods see it.
        task: the cell's task for this model.
        objective: margin and weights, for training and for tuning beta.
        sweep: the beta sweep for display.
        sparsity: at how many sizes the sparsity curve is measured.
        parent_scores: scores of the cell that this one starts from.
        others: tasks that what is trained is taken to, by label.

    Raises:
        UserInputError: what a method or the model at hand cannot do.
        BadScoresError: scores that cannot be used.
    """
    started, clock = datetime.now(UTC), Clock()
    subject.passes = Passes()
    method = cell.method.method
    _check_sites(cell, task.grid)
    _check_lengths(cell, task.encoded.lengths)
    with clock("fit"):
        setting = Setting(objective, cell.seed, parent_scores)
        attribution, intervention = _fit(method, subject, task, setting)
    fit_passes = Passes(subject.passes.forward, subject.passes.backward)
    beta, known = BetaRecord(), dict[str, Response]()
    if attribution.intervention is None:
        with clock("tune"):
            beta, known = _tune(subject, task.train, intervention, objective)
    scale = 1.0 if beta.star is None else beta.star
    with clock("evaluate"):
        metrics, responses = _evaluate(subject, task, intervention, objective, beta.star, known)
        in_full = not (type(method).control and method.number_of_draw)
        swept, top_tokens = _sweeps(
            subject, model, task, intervention, sweep, scale, SWEPT_SPLITS if in_full else ()
        )
        minimality = minimality_of(
            subject, task.train, intervention, scale, attribution.reach, search=in_full
        )
        elsewhere = evaluate_elsewhere(subject, intervention, others, objective)
    curve = None
    if sparsity.points:
        with clock("sparsity"):
            curve, of_prompts = sparsity_curve(
                subject,
                task.train,
                task.splits["test"],
                intervention,
                attribution.scores,
                objective,
                sparsity.points,
            )
            responses |= of_prompts
    record = CellRecord(
        **identity(cell),
        status="done",
        provenance={
            **environment(model, subject),
            "started": started.isoformat(timespec="seconds"),
            "seconds": clock.seconds,
            "passes": _counted(subject.passes, fit_passes),
            "steps": attribution.steps,
            "peak_memory_bytes": peak_memory(subject.device),
        },
        grid=task.grid_record,
        prompts=task.prompt_records | elsewhere.prompts,
        dropped=task.encoded.dropped,
        beta=beta,
        metrics=[*metrics, *elsewhere.metrics],
        minimality=minimality,
        sparsity=curve,
        top_tokens=top_tokens,
        notes=[*task.grid.notes, *attribution.notes, *elsewhere.notes],
    )
    of_method = _method_tensors(attribution, intervention)
    return record, of_method | responses | elsewhere.tensors | swept


def _fit(
    method: Method, subject: SubjectModel, task: PreparedTask, setting: Setting
) -> tuple[Attribution, Intervention]:
    """What the method found, and what is plugged into the model: its own, or Eq. 5 of its scores.

    Raises:
        BadScoresError: as `_checked`.
    """
    fitted = method.fit(subject, task.train.prompts, task.grid, setting)
    attribution = _checked(fitted, task.grid, len(task.train.prompts))
    intervention = attribution.intervention
    if intervention is None:
        intervention = StaticScaling.from_scores(task.grid, attribution.scores)
    return attribution, intervention.to(subject.device)


def _tune(
    subject: SubjectModel, train: Split, intervention: Intervention, objective: Objective
) -> tuple[BetaRecord, dict[str, Response]]:
    """beta* of untrained scores, and the responses that it was found on, by split."""
    tuning = tune_beta(subject, train, intervention, objective)
    record = BetaRecord(star=tuning.star, grid=list(tuning.beta), objective=list(tuning.objective))
    return record, {train.name: tuning.response}


def _counted(passes: Passes, fit: Passes) -> dict[str, int]:
    """Rows that went through the model, in all and for the fit."""
    return {
        "forward_rows": passes.forward,
        "backward_rows": passes.backward,
        "fit_forward_rows": fit.forward,
        "fit_backward_rows": fit.backward,
    }


def identity(cell: PlannedCell) -> dict[str, Any]:
    """What a record says of a cell before anything is computed."""
    method = cell.method.method
    return {
        "id": cell.id,
        "model": cell.model.name,
        "task": cell.task.label,
        "method": cell.method.label,
        "trained": type(method).trained,
        "control": type(method).control,
        "draw": method.number_of_draw,
        "seed": cell.seed,
        "settings": cell.settings,
    }


def _check_sites(cell: PlannedCell, grid: PointGrid) -> None:
    method: type[Method] = type(cell.method.method)
    missing = [site.value for site in grid.sites if site not in method.sites]
    if missing:
        known = ", ".join(sorted(site.value for site in method.sites))
        raise UnsupportedSiteError(
            f"{cell.method.label} cannot score {', '.join(missing)}; its sites are {known}."
        )


def _check_lengths(cell: PlannedCell, lengths: tuple[int, ...]) -> None:
    if len(lengths) > 1 and not type(cell.method.method).any_length:
        able = sorted(name for name, entry in METHODS.items() if entry.load().any_length)
        raise SeveralLengthsError(
            f"{cell.method.label} is tied to positions, and the prompts of the task "
            f'"{cell.task.label}" have {", ".join(map(str, lengths))} tokens. {", ".join(able)} '
            'works at any length; a task with the setting "lengths" has prompts of one length '
            'with "lengths: one".'
        )


def _checked(attribution: Attribution, grid: PointGrid, n_prompts: int) -> Attribution:
    """The attribution on the CPU with NaN where points are left out.

    Raises:
        BadScoresError: for scores of the wrong shape, scores that are no numbers, or scores that
            are not the mean of those per prompt.
    """
    scores = _masked(attribution.scores, "scores", grid, grid.shape)
    per_prompt = attribution.prompt_scores
    if per_prompt is not None:
        per_prompt = _masked(per_prompt, "prompt_scores", grid, (n_prompts, *grid.shape))
        mean = per_prompt.mean(dim=0)
        scale = float(scores.nan_to_num().abs().max())
        if not torch.allclose(mean, scores, rtol=1e-3, atol=1e-4 * scale, equal_nan=True):
            raise BadScoresError("the method's scores are not the mean of its prompt_scores")
    extras = {
        name: _masked(extra, name, grid, grid.shape) for name, extra in attribution.extras.items()
    }
    return replace(attribution, scores=scores, prompt_scores=per_prompt, extras=extras)


def _masked(values: Tensor, name: str, grid: PointGrid, shape: tuple[int, ...]) -> Tensor:
    """`values` as fp32 on the CPU, NaN at the points that are left out."""
    if tuple(values.shape) != shape:
        raise BadScoresError(
            f"the method's {name} have shape {tuple(values.shape)} instead of {shape}: "
            f"(place, layer, position) of the grid is {grid.shape}"
        )
    values = values.detach().float().cpu()
    if not bool(torch.isfinite(values[..., grid.included]).all()):
        raise BadScoresError(f"the method's {name} hold NaN or infinite values")
    return values.masked_fill(~grid.included, torch.nan)


def _method_tensors(attribution: Attribution, intervention: Intervention) -> Tensors:
    """What the method gave and what is plugged into the model."""
    named: dict[str, Tensor] = {"scores": attribution.scores}
    named |= {
        f"intervention.{name}": parameter for name, parameter in intervention.named_parameters()
    }
    named |= {f"extra.{name}": extra for name, extra in attribution.extras.items()}
    if attribution.prompt_scores is not None:
        named["prompt_scores"] = attribution.prompt_scores
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in named.items()}


def _evaluate(
    subject: SubjectModel,
    task: PreparedTask,
    intervention: Intervention,
    objective: Objective,
    star: float | None,
    known: dict[str, Response],
) -> tuple[list[MetricRow], Tensors]:
    """Metrics of every split at beta = 1 and beta*, and what is stored of every prompt.

    Args:
        star: beta* of untrained scores.
        known: responses that tuning has run already, by split.
    """
    kinds = [("one", 1.0)] + ([] if star is None else [("star", star)])
    metrics: list[MetricRow] = []
    tensors: Tensors = {}
    for split in task.splits.values():
        at = strengths(star)
        if split.name in known:
            response = known[split.name].select(at)
        else:
            response = respond(subject, split, intervention, at)
        tensors |= _stored(f"split.{split.name}", response, ("ld", "kl", "p_answer", "p_foil"))
        metrics += [
            metric_row(split, response, kind, strength, intervention, objective)
            for kind, strength in kinds
        ]
    return metrics, tensors


def _sweeps(
    subject: SubjectModel,
    model: LoadedModel,
    task: PreparedTask,
    intervention: Intervention,
    sweep: Sweep,
    scale: float,
    splits: Sequence[str],
) -> tuple[Tensors, dict[str, str]]:
    """The sweeps of some splits, and the strings of the tokens that are likely in them, by id."""
    tensors: Tensors = {}
    strings: dict[str, str] = {}
    for split in splits:
        tensors |= _sweep(subject, task.splits[split], intervention, sweep, scale)
        strings |= _token_strings(model, tensors[f"sweep.{split}.top_ids"])
    return tensors, strings


def _sweep(
    subject: SubjectModel, split: Split, intervention: Intervention, sweep: Sweep, scale: float
) -> Tensors:
    """The response of the displayed prompts on a grid of strengths around 0."""
    shown = split.take(range(min(sweep.prompts, len(split.prompts))))
    beta = torch.linspace(-sweep.reach, sweep.reach, sweep.points) * abs(scale)
    beta[sweep.points // 2] = 0
    response = respond(subject, shown, intervention, beta)
    fields = ("logit_answer", "logit_foil", "ld", "p_answer", "p_foil", "kl", "top_ids", "top_p")
    stored = _stored(f"sweep.{split.name}", response, fields)
    return {**stored, f"sweep.{split.name}.prompt": np.arange(len(shown.prompts))}


def _stored(prefix: str, response: Response, fields: tuple[str, ...]) -> Tensors:
    return {f"{prefix}.{field}": getattr(response, field).numpy() for field in ("beta", *fields)}


def _token_strings(model: LoadedModel, ids: NDArray[np.int64]) -> dict[str, str]:
    decode: Callable[[list[int]], str] = model.tokenizer.decode
    return {str(token): decode([int(token)]) for token in np.unique(ids)}
