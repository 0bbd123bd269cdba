"""Computes one cell: fits the method, tunes beta (untrained only), evaluates, and records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bench.evaluation.attribution import fit, method_tensors
from bench.evaluation.beta import BetaTuning, tune_beta
from bench.evaluation.checks import Elsewhere, check_cell, not_measured_on
from bench.evaluation.circuit import measure_circuits
from bench.evaluation.evaluate import minimality_of
from bench.evaluation.finding import find
from bench.evaluation.localisation import localise
from bench.evaluation.one_point import one_point_steering
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import PriceSearch, price_curve, strengths_at
from bench.evaluation.provenance import Clock, environment, peak_memory
from bench.evaluation.references import find_references
from bench.evaluation.response import Response
from bench.evaluation.responses import evaluate_splits, sweeps
from bench.evaluation.retrained import retrain
from bench.evaluation.select import select
from bench.evaluation.sparsity import sparsity_curve
from bench.evaluation.split import Split
from bench.evaluation.transfer import evaluate_elsewhere
from bench.matrix.cells import PlannedCell
from bench.matrix.stages import Circuit, OnePoint
from bench.models.load import LoadedModel
from bench.store.cells import Tensors as Tensors
from bench.store.interventions import kind_of
from bench.store.records import BetaRecord, CellRecord, PriceRecord, SelectedRow
from methods import METHODS
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.subject import Passes, SubjectModel
from methods.method import Attribution, Method, Setting
from tasks.errors import UserInputError
from tasks.registry import Entry


class UnsupportedSiteError(UserInputError):
    """A method cannot score one of the grid's sites."""


class SeveralLengthsError(UserInputError):
    """A method that is tied to positions is given prompts of several lengths."""


def compute_cell(
    cell: PlannedCell,
    model: LoadedModel,
    subject: SubjectModel,
    task: PreparedTask,
    objective: Objective,
    parent_scores: Float[Tensor, "place layer position"] | None,
    others: Mapping[str, PreparedTask] = MappingProxyType({}),
    elsewhere: Elsewhere = MappingProxyType({}),
) -> tuple[CellRecord, Tensors]:
    """Computes a cell.

    Args:
        cell: what to compute.
        model: the model as loaded, for its tokenizer and digest.
        subject: the same model as methods see it.
        task: the cell's task for this model.
        objective: margin and weights, for training and for tuning beta.
        parent_scores: scores of the cell that this one starts from.
        others: tasks that what is trained is taken to, by label.
        elsewhere: tasks on which what is fitted should do nothing, or why they cannot be prepared.

    Raises:
        UserInputError: what a method or the model at hand cannot do.
        BadScoresError: scores that cannot be used.
    """
    started, clock = datetime.now(UTC), Clock()
    subject.passes = Passes()
    _check_sites(cell, task.grid)
    _check_lengths(cell, task.encoded.lengths)
    trained = type(cell.method.method).trained
    setting = Setting(objective, cell.seed, parent_scores)
    method, setting, selected = _selected(cell, subject, task, setting, clock)
    with clock("fit"):
        fitted = _Fitted(*fit(method, subject, task.train.prompts, task.grid, setting))
    fit_passes = Passes(subject.passes.forward, subject.passes.backward)
    search = PriceSearch(subject, task.train, fitted.intervention, not trained)
    with clock("price"):
        prices = strengths_at(search, cell.stages.prices.at, trained)
    fitted = replace(fitted, prices=prices, known=search.response)
    if not (trained or cell.stages.verdicts_alone):
        with clock("tune"):
            fitted = _tuned(fitted, subject, task.train, objective)
    with clock("evaluate"):
        results, tensors = _evaluate(cell, model, subject, task, fitted, objective, others)
    curves, of_curves = _curves(cell, subject, task, fitted, search, objective, clock)
    checks, of_checks = check_cell(
        cell, model, subject, task, (method, setting), fitted.steering(cell), elsewhere, clock
    )
    made = {"started": started.isoformat(timespec="seconds"), "seconds": clock.seconds}
    made |= _costs(subject, fit_passes) | {"steps": fitted.attribution.steps}
    results["notes"] += not_measured_on(elsewhere)
    results |= {**curves, **checks, **_finding(cell, model, task, fitted)}
    found = {**identity(cell), **results, "selected": selected}
    found["provenance"] = {**environment(model, subject), **made}
    own = method_tensors(fitted.attribution, fitted.intervention)
    return CellRecord(status="done", **found), own | tensors | of_curves | of_checks


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What a method found, what is plugged into the model, and the strength that steers.

    Attributes:
        attribution: what the method gave.
        intervention: its own, or activation scalars made from its scores (Eq. 5).
        beta: beta* of untrained scores; empty for what was trained.
        prices: strengths chosen for prices.
        known: the train split's response to strengths that were run.
        tuning: where beta* was found.
    """

    attribution: Attribution
    intervention: Intervention
    beta: BetaRecord = field(default_factory=BetaRecord)
    prices: Sequence[PriceRecord] = ()
    known: Response | None = None
    tuning: BetaTuning | None = None

    @property
    def scores(self) -> Float[Tensor, "place layer position"]:
        """The score of every point."""
        return self.attribution.scores

    def steering(self, cell: PlannedCell) -> tuple[Intervention, float]:
        """What steers, and how strongly: at the main price, else beta*, or 1 of what is trained."""
        at = {record.price: record.beta for record in self.prices}
        star = 1.0 if self.beta.star is None else self.beta.star
        return self.intervention, at.get(cell.stages.main_price, star)


def _evaluate(
    cell: PlannedCell,
    model: LoadedModel,
    subject: SubjectModel,
    task: PreparedTask,
    fitted: _Fitted,
    objective: Objective,
    others: Mapping[str, PreparedTask],
) -> tuple[dict[str, Any], Tensors]:
    """Fields of the cell's record that say how it steers, and what is stored of every prompt."""
    attribution, intervention = fitted.attribution, fitted.intervention
    star = fitted.beta.star
    scale = 1.0 if star is None else star
    at_prices = {record.price: record.beta for record in fitted.prices}
    verdicts_only = cell.stages.verdicts_alone
    own = [] if verdicts_only else [("one", 1.0), *([] if star is None else [("star", star)])]
    metrics, responses = evaluate_splits(
        subject, task, intervention, objective, own, at_prices, fitted.known
    )
    swept, top_tokens = sweeps(subject, model, task, intervention, cell.stages.sweep, scale)
    searches = cell.stages.smallest_k
    minimality = (
        None
        if verdicts_only
        else minimality_of(
            subject, task.train, intervention, scale, attribution.reach, search=searches
        )
    )
    elsewhere = evaluate_elsewhere(subject, intervention, others, objective)
    results = {
        "grid": task.grid_record,
        "prompts": task.prompt_records | elsewhere.prompts,
        "dropped": task.encoded.dropped,
        "beta": fitted.beta,
        "prices": fitted.prices,
        "metrics": [*metrics, *elsewhere.metrics],
        "minimality": minimality,
        "intervention": kind_of(intervention),
        "top_tokens": top_tokens,
        "notes": [*task.grid.notes, *attribution.notes, *elsewhere.notes],
    }
    return results, responses | elsewhere.tensors | swept


def _curves(
    cell: PlannedCell,
    subject: SubjectModel,
    task: PreparedTask,
    fitted: _Fitted,
    search: PriceSearch,
    objective: Objective,
    clock: Clock,
) -> tuple[dict[str, Any], Tensors]:
    """Fields of the cell's record over prices and over its few strongest points, and tensors."""
    of, scores, seed = fitted.intervention, fitted.scores, cell.seed
    stages, matched = cell.stages, not type(cell.method.method).control
    asked: dict[str, tuple[bool, Callable[[], tuple[Any, Tensors]]]] = {
        "price_curve": (stages.prices.curve, lambda: price_curve(search, task.splits["test"])),
        "localisation": (
            bool(stages.localisation.k),
            lambda: localise(subject, task, of, scores, stages.localisation, seed),
        ),
        "retrained": (
            bool(stages.retrained.k),
            lambda: retrain(subject, task, scores, stages.retrained, objective, seed, matched),
        ),
        "sparsity": (
            bool(stages.sparsity.points),
            lambda: sparsity_curve(
                subject, task, of, scores, objective, stages.sparsity.points, fitted.tuning
            ),
        ),
        "circuit": (
            stages.circuit is not None,
            lambda: measure_circuits(subject, task, scores, stages.circuit or Circuit(), seed),
        ),
        "one_point": (
            stages.one_point is not None,
            lambda: one_point_steering(subject, task, scores, stages.one_point or OnePoint()),
        ),
    }
    results: dict[str, Any] = {}
    tensors: Tensors = {}
    for name, (wanted, measure) in asked.items():
        if wanted:
            with clock(name):
                results[name], of_prompts = measure()
            tensors |= of_prompts
    return results, tensors


def _finding(
    cell: PlannedCell, model: LoadedModel, task: PreparedTask, fitted: _Fitted
) -> dict[str, Any]:
    """How the scores find the circuit of a model whose circuit is known, or that papers found."""
    circuit = model.circuits.get(getattr(cell.task.task, "changed", ""))
    if circuit is None:
        found = find_references(model.name, cell.task.name, task.grid, fitted.scores)
        return {"finding": found} if found else {}
    prompts, signed = task.train.prompts, cell.method.method.signed
    return {"finding": find(circuit, task.grid, prompts, fitted.scores, signed=signed)}


def _selected(
    cell: PlannedCell, subject: SubjectModel, task: PreparedTask, setting: Setting, clock: Clock
) -> tuple[Method, Setting, list[SelectedRow]]:
    """The method as it is fitted, and what was tried; as the cell has it where there is no choice.

    Untrained methods have their strength tuned instead.
    """
    method, stages = cell.method.method, cell.stages
    if not (type(method).trained and stages.select):
        return method, setting, []
    with clock("select"):
        return select(method, subject, task, setting, stages.select, stages.main_price)


def _tuned(fitted: _Fitted, subject: SubjectModel, train: Split, objective: Objective) -> _Fitted:
    """The same with beta*, and the responses that it was found on."""
    tuning = tune_beta(subject, train, fitted.intervention, objective, fitted.known)
    beta = BetaRecord(star=tuning.star, grid=list(tuning.beta), objective=list(tuning.objective))
    return replace(fitted, beta=beta, known=tuning.response, tuning=tuning)


def _costs(subject: SubjectModel, fit: Passes) -> dict[str, Any]:
    """Rows that went through the model, in all and for the fit, and the memory that was taken."""
    passes = {
        "forward_rows": subject.passes.forward,
        "backward_rows": subject.passes.backward,
        "fit_forward_rows": fit.forward,
        "fit_backward_rows": fit.backward,
    }
    return {"passes": passes, "peak_memory_bytes": peak_memory(subject.device)}


def identity(cell: PlannedCell) -> dict[str, Any]:
    """What a record says of a cell before anything is computed."""
    planned = cell.planned._asdict()
    del planned["varied"]
    return {**planned, "signed": cell.method.method.signed, "settings": cell.settings}


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
        able = sorted(name for name, entry in METHODS.items() if _takes_any_length(entry))
        raise SeveralLengthsError(
            f"{cell.method.label} is tied to positions, and the prompts of the task "
            f'"{cell.task.label}" have {", ".join(map(str, lengths))} tokens. {", ".join(able)} '
            'works at any length; a task with the setting "lengths" has prompts of one length '
            'with "lengths: one".'
        )


def _takes_any_length(entry: Entry) -> bool:
    try:
        return bool(entry.load().any_length)
    except UserInputError:
        return False  # somebody's broken plug-in, which this cell has nothing to do with
