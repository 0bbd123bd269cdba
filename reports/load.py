"""A read-only view of a stored run; tensors are read when asked for."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pandas import DataFrame

from bench.agreement.table import COLUMNS
from bench.store.cells import Cell, Tensors
from bench.store.records import CellRecord, MetricRow
from bench.store.results import RunStore
from bench.store.tidy import tidy_table, variant_labels
from reports.missing import Missing, read
from tasks.errors import UserInputError, nearest

T = TypeVar("T")
LARGE = ("intervention.", "extra.", "prompt_scores")
"""Tensors that reports need of one cell at a time only."""


@dataclass(frozen=True)
class Results:
    """What a run holds.

    Attributes:
        records: the sound cells, failed ones too.
        missing: what the run has no result for, failed cells among it.
    """

    store: RunStore
    records: tuple[CellRecord, ...]
    missing: tuple[Missing, ...]
    agreement: DataFrame
    labels: tuple[str, ...] = ()
    """Every method's label in the whole run, so that a part of it is drawn in the same colours."""
    _small: dict[str, Tensors] = field(default_factory=dict, repr=False, compare=False)
    _names: dict[str, frozenset[str]] = field(default_factory=dict, repr=False, compare=False)
    known: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was worked out already (see `once`)."""

    @property
    def table(self) -> DataFrame:
        """The tidy table: one row a cell x split x beta kind (`bench.store.tidy.COLUMNS`)."""
        return tidy_table(self.records)

    @property
    def _named(self) -> tuple[CellRecord | Missing, ...]:
        """All that says what it is of, with a result or without."""
        return (*self.records, *self.missing)

    def cell(self, cell_id: str) -> Cell:
        """Return a cell with its tensors. Errors as `RunStore.read`."""
        return self.store.read(cell_id)

    def small_tensors(self, cell_id: str) -> Tensors:
        """Return a cell's tensors without parameters and prompts' scores; read once, then kept.

        Raises CorruptCellError where they were altered since the run was loaded.
        """
        if cell_id not in self._small:
            tensors = self.cell(cell_id).tensors
            self._names[cell_id] = frozenset(tensors)
            self._small[cell_id] = {
                name: tensor for name, tensor in tensors.items() if not name.startswith(LARGE)
            }
        return self._small[cell_id]

    def has_prompt_scores(self, cell_id: str) -> bool:
        """Whether a cell's scores are means of those of its prompts. Errors as `small_tensors`."""
        self.small_tensors(cell_id)
        return "prompt_scores" in self._names[cell_id]

    def only(
        self,
        models: Collection[str] = (),
        tasks: Collection[str] = (),
        methods: Collection[str] = (),
    ) -> "Results":
        """Return the results of these models, tasks and methods alone; an empty choice is all.

        A method is chosen with all its settings by its name, or by its label with those settings;
        its controls come with it.
        Raises UserInputError, naming the nearest, for a name that the run lacks.
        """
        for kind, names in (("model", models), ("task", tasks)):
            for name in names:
                self.check(**{kind: name})
        known = {
            name
            for one in self._named
            if one.method and not one.control
            for name in (one.method, plain_name(one.method))
        }
        for name in methods:
            if name not in known:
                hint = nearest(name, known)
                raise UserInputError(f"{self.store.directory} has no method {name!r}.{hint}")
        return self.part(models, tasks, methods)

    def part(
        self, models: Collection[str], tasks: Collection[str], methods: Collection[str]
    ) -> "Results":
        """Return what `only` does; a name that the run lacks chooses nothing of it."""

        def chosen(name: str) -> bool:
            return not methods or bool({name, plain_name(name)} & set(methods))

        def wanted(one: CellRecord | Missing) -> bool:
            of = parent_of(one) if one.control else one.method
            return (
                (not models or one.model in (None, *models))
                and (not tasks or one.task in (None, *tasks))
                and (of is None or chosen(of))
            )

        records = tuple(record for record in self.records if wanted(record))
        missing = tuple(one for one in self.missing if wanted(one))
        frame = self.agreement
        keep = [
            (not models or row.model in models)
            and (not tasks or row.task in tasks)
            and chosen(row.method_a.partition(" · ")[0])
            and chosen(row.method_b.partition(" · ")[0])
            for row in frame.itertuples()
        ]
        frame = frame[np.array(keep, dtype=bool)]
        return replace(self, records=records, missing=missing, agreement=frame, known={})

    def pairs(self) -> list[tuple[str, str]]:
        """Return every (model, task) of the run, in order."""
        return sorted({(record.model, record.task) for record in self.records})

    def of(self, model: str | None = None, task: str | None = None) -> list[CellRecord]:
        """Return the records of a model and task, of either alone, or all.

        Raises UserInputError for unknown names.
        """
        self.check(model=model, task=task)
        return [
            record
            for record in self.records
            if model in (None, record.model) and task in (None, record.task)
        ]

    def pairs_of(self, model: str | None, task: str | None) -> list[tuple[str, str]]:
        """Return every (model, task) of `of`, in the order of the records."""
        return list(dict.fromkeys((one.model, one.task) for one in self.of(model, task)))

    def one(self, model: str | None = None, task: str | None = None) -> tuple[str, str]:
        """Return the (model, task) that is meant; either may be None where the run has one only.

        Raises UserInputError for unknown names, and where there are several to choose from.
        """
        pairs = sorted(self.pairs_of(model, task))
        if len(pairs) == 1:
            return pairs[0]
        found = "; ".join(" · ".join(pair) for pair in pairs) or "none"
        raise UserInputError(
            f"{self.store.directory}: say which model and task is meant. There are: {found}."
        )

    def check(self, **names: str | None) -> None:
        """Raise UserInputError, naming the nearest, for a model or task that the run lacks."""
        for kind, name in names.items():
            known = {getattr(one, kind) for one in self._named} - {None}
            if name is not None and name not in known:
                where = self.store.directory
                raise UserInputError(f"{where} has no {kind} {name!r}.{nearest(name, known)}")


def load(directory: Path | str) -> Results:
    """Open a results directory for reading.

    Raises UserInputError where it is not one, and where its run.json or its agreement was altered.

    A cell that cannot be read does not end the report: it stands in `missing`.
    """
    store = RunStore.open(directory)
    records, missing = read(store)
    agreement = store.tables.read("agreement")
    if agreement is None:
        agreement = DataFrame(columns=[*COLUMNS])
    return Results(
        store, records, missing, agreement, tuple(sorted({*labels_of(records).values()}))
    )


def once(make: Callable[..., T]) -> Callable[..., T]:
    """Let what `make(results, ...)` gives be worked out once: tables and figures share it."""

    @wraps(make)
    def kept(results: Results, *arguments: Any) -> T:
        known, key = results.known, (make.__qualname__, *arguments)
        if key not in known:
            known[key] = make(results, *arguments)
        found: T = known[key]
        return found

    return kept


def of_pair(make: Callable[..., T]) -> Callable[..., T]:
    """Let `make(results, model, task, ...)` be called without a model and task where there is one.

    The two are then keywords that may be None; errors as `Results.one`.
    """
    return _by_keyword(make, lambda results, model, task: (results, *results.one(model, task)))


def of_part(make: Callable[..., T]) -> Callable[..., T]:
    """Let `make(results, ...)` be told a model and a task: it sees the results of these alone.

    The two are then keywords that may be None; errors as `Results.of`.
    """

    def part(results: Results, model: str | None, task: str | None) -> tuple[Results]:
        names = [[name] if name else [] for name in (model, task)]
        return (results.only(*names) if model or task else results,)

    return _by_keyword(make, part)


def of_pairs(make: Callable[..., Iterable[Mapping[str, Any]]]) -> Callable[..., DataFrame]:
    """Let `make(results, model, task)`, the rows of one model and task, be a table over many.

    Its first columns are the model and the task, which are keywords that narrow it; errors as
    `Results.of`.
    """

    @wraps(make)
    def table(results: Results, model: str | None, task: str | None) -> DataFrame:
        return frame_of(
            {"model": pair[0], "task": pair[1], **row}
            for pair in results.pairs_of(model, task)
            for row in make(results, *pair)
        )

    return _by_keyword(table, lambda results, model, task: (results, model, task))


def _by_keyword(
    make: Callable[..., T], arguments: Callable[[Results, str | None, str | None], tuple[Any, ...]]
) -> Callable[..., T]:
    """Let a function take `model` and `task` by keyword, and say so; `arguments` are its own.

    An option that is None is as if it were not given.
    """

    @wraps(make)
    def made(
        results: Results, *, model: str | None = None, task: str | None = None, **options: Any
    ) -> T:
        given = {name: option for name, option in options.items() if option is not None}
        return make(*arguments(results, model, task), **given)

    first, *others = signature(make).parameters.values()
    how: Any = {"kind": Parameter.KEYWORD_ONLY}
    named = [Parameter(name, default=None, **how) for name in ("model", "task")]
    named += [one.replace(**how) for one in others if one.name not in ("model", "task")]
    shown = signature(make).replace(parameters=[first, *named])
    made.__signature__ = shown  # type: ignore[attr-defined]
    return made


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> DataFrame:
    """Return rows as a frame that keeps None (no such number) apart from NaN (an undefined one).

    Its columns are `columns`, or where none are given all that a row has.
    """
    known = list(rows)
    columns = list(columns) or list(dict.fromkeys(name for row in known for name in row))
    values = [[row.get(name) for name in columns] for row in known]
    return DataFrame(values, columns=columns, dtype=object)


def labels_of(records: Iterable[CellRecord]) -> dict[str, str]:
    """Return the label of every cell by its id, as the leaderboard of its model and task has it."""
    groups: dict[tuple[str, str], list[CellRecord]] = {}
    for record in records:
        groups.setdefault((record.model, record.task), []).append(record)
    return {
        cell: label for group in groups.values() for cell, label in variant_labels(group).items()
    }


def parent_of(one: CellRecord | Missing) -> str | None:
    """Return the method whose scores a control starts from; None where it knows of no method."""
    settings = one.settings.get("method") if isinstance(one, CellRecord) else None
    of = settings.get("of") if isinstance(settings, dict) else None
    return str(of) if of else (one.method or "").partition("[of=")[2][:-1] or None


def prompts_seed(record: CellRecord) -> Any:
    """Return which draw of prompts a cell has; None where its settings do not say."""
    prompts = record.settings.get("prompts")
    return prompts.get("seed") if isinstance(prompts, dict) else None


def refit_of(record: CellRecord) -> str:
    """Return which seed and draw of prompts a cell has: cells that share it can be paired."""
    prompts: dict[str, Any] = record.settings.get("prompts") or {}
    return f"seed {record.seed}, prompts {prompts.get('seed', 0)}"


def unsteered_of(record: CellRecord, split: str) -> float:
    """Return E_0 of the unsteered model on a split of a cell; NaN where nothing was measured."""
    found = (row.E_0_unsteered for row in record.metrics if row.split == split)
    return next(found, float("nan"))


def judged(record: CellRecord, *splits: str, at_price: bool = False) -> list[MetricRow]:
    """Return what a cell reaches at its own strength, as in the paper: beta*, of trained methods 1.

    With `at_price` at the strength of the main price instead; raises UserInputError where nothing
    was measured at one.
    """
    kind, price = ("one" if record.trained else "star"), None
    if at_price and record.metrics:
        if record.main_price is None:
            raise UserInputError(
                f"{record.id} was not measured at a price; `prices: {{at: [0.3]}}` does that"
            )
        kind, price = "price", record.main_price.price
    return [
        row
        for row in record.metrics
        if (row.beta_kind, row.price) == (kind, price) and (not splits or row.split in splits)
    ]


def finished(records: Iterable[CellRecord], method: str) -> list[CellRecord]:
    """Return the finished cells of a method, whatever its settings."""
    return [r for r in records if r.status == "done" and plain_name(r.method) == method]


def plain_name(method: str) -> str:
    """Return a method's name without its settings: `activ_patch[direction=denoising]`."""
    return method.partition("[")[0]


def splits_of(records: Iterable[CellRecord]) -> list[str]:
    """Return the splits that the records were evaluated on: train, test, shifted, then others."""
    found = {row.split for record in records for row in record.metrics}
    usual = [split for split in ("train", "test", "shifted") if split in found]
    return usual + sorted(found.difference(usual))
