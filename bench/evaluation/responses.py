"""Evaluates a fitted intervention on every split, and runs the beta sweeps for display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from bench.evaluation.evaluate import metric_row, strengths
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.response import Response
from bench.evaluation.split import Split, respond
from bench.matrix.stages import Sweep
from bench.models.load import LoadedModel
from bench.store.cells import Tensors
from bench.store.records import MetricRow
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from tasks.tokens import token_strings

SWEPT_SPLITS = ("train", "test")


def evaluate_splits(
    subject: SubjectModel,
    task: PreparedTask,
    intervention: Intervention,
    objective: Objective,
    own: Sequence[tuple[str, float]],
    at_prices: Mapping[float, float],
    known: Response | None,
) -> tuple[list[MetricRow], Tensors]:
    """Metrics of every split at some strengths and at prices, and what is stored of every prompt.

    Args:
        subject: the model.
        task: its splits.
        intervention: what is done to activations.
        objective: margin and weights.
        own: strengths of the method itself, beta = 1 and beta*, by kind.
        at_prices: the strength chosen for each price.
        known: the train split's response to strengths that were run already.
    """
    at = strengths([*(beta for _, beta in own), *at_prices.values()])
    metrics: list[MetricRow] = []
    tensors: Tensors = {}
    for split in task.splits.values():
        before = known if split is task.train else None
        response = respond(subject, split, intervention, at, before)
        tensors |= _stored(f"split.{split.name}", response, ("ld", "kl", "p_answer", "p_foil"))
        row = partial(metric_row, split, response, intervention, objective)
        metrics += [row(kind, beta) for kind, beta in own]
        metrics += [row("price", beta, price) for price, beta in at_prices.items()]
    return metrics, tensors


def sweeps(
    subject: SubjectModel,
    model: LoadedModel,
    task: PreparedTask,
    intervention: Intervention,
    sweep: Sweep | None,
    scale: float,
) -> tuple[Tensors, dict[str, str]]:
    """The sweeps on train and test, and the strings of tokens that are likely in them, by id."""
    tensors: Tensors = {}
    strings: dict[str, str] = {}
    if sweep is None:
        return tensors, strings
    for split in SWEPT_SPLITS:
        tensors |= _sweep(subject, task.splits[split], intervention, sweep, scale)
        found = token_strings(model.tokenizer, tensors[f"sweep.{split}.top_ids"].flat)
        strings |= {str(token): text for token, text in found.items()}
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
