"""Computes one cell: fits the method, tunes beta (untrained only), evaluates, and records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bench.evaluation.attribution import fit, method_tensors
from bench.evaluation.beta import BetaTuning, tune_beta
from bench.evaluation.circuit import measure_circuits
from bench.evaluation.evaluate import minimality_of
from bench.evaluation.finding import find
from bench.evaluation.localisation import localise
from bench.evaluation.one_point import one_point_steering
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import PriceSearch, price_curve, strengths_at
from bench.evaluation.provenance import Clock, environment, peak_memory
from bench.evaluation.references import find_references
from bench.evaluation.responses import evaluate_splits, sweeps
from bench.evaluation.retrained import retrain
from bench.evaluation.sanity import check_sanity
from bench.evaluation.select import select
from bench.evaluation.sparsity import sparsity_curve
from bench.evaluation.specificity import measure_specificity
from bench.evaluation.transfer import evaluate_elsewhere
from bench.matrix.cells import PlannedCell
from bench.matrix.stages import Circuit, OnePoint
from bench.models.load import LoadedModel
from bench.store.cells import Tensors as Tensors
from bench.store.interventions import kind_of
from bench.store.records import BetaRecord, CellRecord, FindingRecord, PriceRecord, SelectedRow
from methods import METHODS
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.subject import Passes, SubjectModel
from methods.method import Attribution, Method, Setting
from tasks.errors import UserInputError, message_of
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
    parent_scores: Float[Tensor, "place layer position"] | None,
    others: Mapping[str, PreparedTask] = MappingProxyType({}),
    elsewhere: Mapping[str, PreparedTask | Exception] = MappingProxyType({}),
) -> tuple[CellRecord, Tensors]:
    """Computes a cell.

    Args:
        cell: what to compute.
        model: the model as loaded, for its tokenizer and digest.
        subject: the same model as methods see it.
        task: the cell's task for this model.
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
    trained, stages = type(cell.method.method).trained, cell.stages
    objective = Objective(**cell.objective.model_dump())
    setting = Setting(objective, cell.seed, parent_scores)
    method, setting, selected = _selected(cell, subject, task, setting, clock)
    with clock("fit"):
        attribution, intervention = fit(method, subject, task.train.prompts, task.grid, setting)
    fit_passes = Passes(subject.passes.forward, subject.passes.backward)
    search = PriceSearch(subject, task.train, intervention, not trained)
    with clock("price"):
        prices = strengths_at(search, stages.prices.at, trained)
    tuning = None
    if not (trained or stages.verdicts_alone):
        with clock("tune"):
            tuning = tune_beta(subject, task.train, intervention, objective, search.response)
    fitted = _Fitted(
        cell, model, subject, task, objective, attribution, intervention, search, prices, tuning
    )
    with clock("evaluate"):
        results, tensors = fitted.evaluate(others)
    for name, measure in {**fitted.curves(), **fitted.checks(method, setting, elsewhere)}.items():
        with clock(name):
            results[name], of_prompts = measure()
        tensors |= of_prompts
    made = {"started": started.isoformat(timespec="seconds"), "seconds": clock.seconds}
    made |= _costs(subject, fit_passes) | {"steps": attribution.steps}
    results["notes"] += _not_measured_on(elsewhere)
    found = {**identity(cell), **results, "finding": fitted.finding(), "selected": selected}
    found["provenance"] = {**environment(model, subject), **made}
    return CellRecord(status="done", **found), method_tensors(attribution, intervention) | tensors


Measured = Callable[[], tuple[Any, Tensors]]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What a method found on a cell's model and task, and what is measured of it.

    Attributes:
        attribution: what the method gave.
        intervention: its own, or activation scalars made from its scores (Eq. 5).
        search: of strengths for prices.
        prices: strengths chosen for prices.
        tuning: where beta* was found; None of what was trained.
    """

    cell: PlannedCell
    model: LoadedModel
    subject: SubjectModel
    task: PreparedTask
    objective: Objective
    attribution: Attribution
    intervention: Intervention
    search: PriceSearch
    prices: Sequence[PriceRecord]
    tuning: BetaTuning | None

    @property
    def steering(self) -> tuple[Intervention, float]:
        """What steers, and how strongly: at the main price, else beta*, or 1 of what is trained."""
        at = {record.price: record.beta for record in self.prices}
        star = 1.0 if self.tuning is None else self.tuning.star
        return self.intervention, at.get(self.cell.stages.main_price, star)

    def evaluate(self, others: Mapping[str, PreparedTask]) -> tuple[dict[str, Any], Tensors]:
        """Fields of the cell's record that say how it steers, and what is stored of every prompt.

        Args:
            others: tasks that it is taken to, by label.
        """
        subject, task, intervention = self.subject, self.task, self.intervention
        tuning = self.tuning
        stages, scale = self.cell.stages, 1.0 if tuning is None else tuning.star
        own, minimality, beta, known = [], None, BetaRecord(), self.search.response
        if tuning is not None:
            known, curve = tuning.response, list(tuning.objective)
            beta = BetaRecord(star=tuning.star, grid=list(tuning.beta), objective=curve)
        if not stages.verdicts_alone:
            own = [("one", 1.0), *([] if tuning is None else [("star", scale)])]
            reach, searched = self.attribution.reach, stages.smallest_k
            minimality = minimality_of(
                subject, task.train, intervention, scale, reach, search=searched
            )
        at_prices = {record.price: record.beta for record in self.prices}
        metrics, responses = evaluate_splits(
            subject, task, intervention, self.objective, own, at_prices, known
        )
        swept, top_tokens = sweeps(subject, self.model, task, intervention, stages.sweep, scale)
        elsewhere = evaluate_elsewhere(subject, intervention, others, self.objective)
        results = {
            "grid": task.grid_record,
            "prompts": task.prompt_records | elsewhere.prompts,
            "dropped": task.encoded.dropped,
            "beta": beta,
            "prices": self.prices,
            "metrics": [*metrics, *elsewhere.metrics],
            "minimality": minimality,
            "intervention": kind_of(intervention),
            "top_tokens": top_tokens,
            "notes": [*task.grid.notes, *self.attribution.notes, *elsewhere.notes],
        }
        return results, responses | elsewhere.tensors | swept

    def curves(self) -> dict[str, Measured]:
        """What is measured over prices and over the strongest points, by field of the record."""
        subject, task, of, objective = self.subject, self.task, self.intervention, self.objective
        scores, seed, stages = self.attribution.scores, self.cell.seed, self.cell.stages
        matched = not type(self.cell.method.method).control
        asked: dict[str, tuple[object, Measured]] = {
            "price_curve": (
                stages.prices.curve,
                lambda: price_curve(self.search, task.splits["test"]),
            ),
            "localisation": (
                stages.localisation.k,
                lambda: localise(subject, task, of, scores, stages.localisation, seed),
            ),
            "retrained": (
                stages.retrained.k,
                lambda: retrain(subject, task, scores, stages.retrained, objective, seed, matched),
            ),
            "sparsity": (
                stages.sparsity.points,
                lambda: sparsity_curve(
                    subject, task, of, scores, objective, stages.sparsity.points, self.tuning
                ),
            ),
            "circuit": (
                stages.circuit,
                lambda: measure_circuits(subject, task, scores, stages.circuit or Circuit(), seed),
            ),
            "one_point": (
                stages.one_point,
                lambda: one_point_steering(subject, task, scores, stages.one_point or OnePoint()),
            ),
        }
        return {name: measure for name, (wanted, measure) in asked.items() if wanted}

    def checks(
        self, method: Method, around: Setting, elsewhere: Mapping[str, PreparedTask | Exception]
    ) -> dict[str, Measured]:
        """Whether the map has to do with the model and what is asked, and what is done elsewhere.

        Args:
            method: as it was fitted.
            around: what surrounded its fit.
            elsewhere: where the intervention should do nothing.
        """
        asked, sanity = dict[str, Measured](), self.cell.stages.sanity
        if sanity:
            asked["sanity"] = lambda: check_sanity(method, self.subject, self.task, sanity, around)
        if specificity := self.cell.stages.specificity:
            others = {at: one for at, one in elsewhere.items() if not isinstance(one, Exception)}
            tasks = {self.cell.task.label: self.task, **others}
            asked["specificity"] = lambda: measure_specificity(
                self.subject, self.model, tasks, *self.steering, specificity
            )
        return asked

    def finding(self) -> list[FindingRecord]:
        """How scores find the circuit of a model whose circuit is known, or that papers found."""
        task, scores, named = self.task, self.attribution.scores, self.cell.task
        circuit = self.model.circuits.get(getattr(named.task, "changed", ""))
        if circuit is None:
            return find_references(self.model.name, named.name, task.grid, scores)
        signed = self.cell.method.method.signed
        return find(circuit, task.grid, task.train.prompts, scores, signed=signed)


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


def _not_measured_on(elsewhere: Mapping[str, PreparedTask | Exception]) -> list[str]:
    """Notes on tasks that could not be prepared."""
    return [
        f"specificity was not measured on {label}: {message_of(why)}"
        for label, why in elsewhere.items()
        if isinstance(why, Exception)
    ]


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
