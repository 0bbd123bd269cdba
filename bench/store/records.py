"""What a cell's `cell.json` says: one schema, checked when written and when read.

A cell is one model x task x method x seed x settings. Everything in this file is torch-free, so
that reports can read a run without a model. Numbers that are not finite are legal values, stored as
`bench.store.schema` says.
"""

from typing import Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from bench.store.circuit_record import CircuitRecord, OnePointRecord
from bench.store.run_record import check_cell_id
from bench.store.sanity_record import SanityRecord, SpecificityRecord
from bench.store.schema import MAX_LINE, Log, Name, PlainDict, StrictRecord, Text

MAIN_PRICE = 0.3
"""The divergence in nats (-F of Eq. 7) at which methods are ranked."""
MAIN_K = 16
"""The number of strongest points by which it is judged whether a method knows where."""


class CellError(StrictRecord):
    """Why a cell failed: the exception's class, its message, and the log around it."""

    kind: Name
    message: Text
    log: Log = ""

    @property
    def line(self) -> str:
        """The kind and the first line of the message, for tables and wherever there is a line."""
        line = f"{self.kind}: {self.message.strip()}".splitlines()[0]
        return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


class PlaceRecord(NamedTuple):
    """One entry of the first axis of scores: a site of width d_model, or a head of a site."""

    site: str
    head: int | None = None

    @property
    def label(self) -> str:
        """Return `attn_out`, or `o.3` for head 3."""
        return self.site if self.head is None else f"{self.site}.{self.head}"


class GridRecord(StrictRecord):
    """The intervention points of a cell. `scores` has shape (place, layer, position) over it.

    A place is a site, or one head of a site that `heads` gives a number of heads for.
    `positions` are indices into the prompt's tokens (0 is the first, the BOS where there is one);
    `excluded` lists points left out as (label of the place, layer, position), each with its reason
    in `notes`.
    """

    sites: list[str]
    heads: dict[str, int] = {}
    n_layers: int
    positions: list[int]
    excluded: list[tuple[str, int, int]] = []
    notes: list[str] = []

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of scores (place, layer, position); nothing is made of that size."""
        places = sum(self.heads.get(site, 1) for site in self.sites)
        return places, self.n_layers, len(self.positions)

    @property
    def places(self) -> list[PlaceRecord]:
        """The first axis of scores."""
        return [
            PlaceRecord(site, head)
            for site in self.sites
            for head in (range(self.heads[site]) if site in self.heads else (None,))
        ]


class PromptRecord(StrictRecord):
    """One prompt as the model saw it. `tokens` are the readable strings of the clean prompt.

    Where a task has several lengths, shorter prompts have "" and the id -1 in front (padding).
    """

    clean: str
    corrupted: str
    answer: str
    foil: str
    entity: str
    tokens: list[str]
    token_ids: list[int]
    corrupted_ids: list[int]
    answer_id: int
    foil_id: int


class BetaRecord(StrictRecord):
    """The tuning of beta on the train split; `star` is None for trained methods."""

    star: float | None = None
    grid: list[float] = []
    objective: list[float] = []


class MetricRow(StrictRecord):
    """One split at one strength, paper Eq. 6-9; `E_0` etc. are <= 0, shares and mass in [0, 1].

    `beta_kind` is "one" (beta = 1), "star" (beta = beta*) or "price": the strength that was chosen
    on train for `price` (nats); what it costs on this split is -F.
    """

    split: str
    beta_kind: Literal["one", "star", "price"]
    beta: float
    price: float | None = None
    n_prompts: int
    E_0: float
    E_0_unsteered: float
    E_m: float
    F: float
    M_1: float
    Psi: float
    flips_plus: float
    flips_minus: float
    mass: float
    mass_unsteered: float


class MinimalityRecord(StrictRecord):
    """How many parameters a method needs: the paper's count of |theta| >= threshold, and ours.

    `nonzero` counts |theta| > 0: with exact zeros it needs no threshold.

    Where `meaningful` is False the count says nothing (too few optimiser steps to reach the
    threshold) and must be shown as such, never as a number. `smallest_k` counts `unit`s; where
    `searched` is False nobody looked for it (further draws of a control).
    """

    count: int
    n_parameters: int
    meaningful: bool
    nonzero: int | None = None
    smallest_k: int | None = None
    searched: bool = True
    threshold: float = 0.01
    unit: str = "scalar"


class PriceRecord(StrictRecord):
    """The strength that was chosen on train for a price (`bench.evaluation.price`).

    `paid` and `E_0` are of train; `reached` is False where no strength costs as much as the price,
    `extrapolated` is True where what was trained is used at less than half or more than twice the
    strength that it was trained at.
    """

    price: float
    beta: float
    paid: float
    E_0: float
    reached: bool = True
    extrapolated: bool = False


class SelectedRow(StrictRecord):
    """A setting of a trained method that was tried (`bench.evaluation.select`).

    It is judged on `n_prompts` train prompts that it was not fitted on: `E_0` there at the strength
    `beta`, which is chosen there for `price` and costs `paid`. The method is the one that is
    `chosen`, fitted on all of train.
    """

    settings: PlainDict
    n_prompts: int
    price: float
    beta: float
    paid: float
    E_0: float
    chosen: bool = False


class PriceCurveRecord(StrictRecord):
    """E_0 on `split` at strengths chosen on train for each `price`, and what they cost on `split`.

    `area` is the share of the unsteered E_0 that is made up for, averaged over log price.
    """

    split: str
    price: list[float]
    beta: list[float]
    E_0: list[float]
    paid: list[float]
    reached: list[bool]
    area: float


class LocalisationRecord(StrictRecord):
    """E_0 with the `k` points of largest |score| alone, at one price (nats).

    `beta` is chosen on train at every k, where it costs `paid_train`; `E_0` and `paid` are of
    `split`; `area` is the share of the unsteered E_0 that is made up for, averaged over log k.
    """

    split: str
    price: float
    k: list[int] = []
    beta: list[float] = []
    E_0: list[float] = []
    paid: list[float] = []
    E_0_train: list[float] = []
    paid_train: list[float] = []
    area: float | None = None


class RetrainedRow(StrictRecord):
    """E_0 on test of scalars trained anew at `k` points alone (`bench.evaluation.retrained`).

    `support` says which: the method's strongest, or as many at other positions or in other layers.
    `beta` is chosen on train for `price`; `paid` and `E_0` are of test.
    """

    k: int
    support: str
    draw: int
    price: float
    beta: float
    E_0: float
    paid: float
    E_0_train: float
    paid_train: float


class SparsityRecord(StrictRecord):
    """E_0 and F when only the `k` points of largest |score| are left (`bench.evaluation.sparsity`).

    `beta` is tuned on train at every k; `E_0` and `F` are of `split`; `area` is E_0 averaged over
    log k, in logits.
    """

    split: str
    k: list[int]
    beta: list[float]
    E_0: list[float]
    F: list[float]
    E_0_train: list[float]
    area: float


class KnownPoint(NamedTuple):
    """A point of which it is known what it does: its kind is causal, backup, decoy, cancelling."""

    place: str
    layer: int
    position: int
    kind: str


class FindingRecord(StrictRecord):
    """How scores rank the points of a circuit that is known (`bench.evaluation.finding`).

    `group` is what was ranked together: "components" or "residual", of circuits that papers found
    "nodes" (heads and MLPs, positions summed; `bench.evaluation.references`). `auroc` is of sizes,
    `auroc_signed` of scores with the sign of the exact effect, None where scores have no sign or
    effects are not known by theirs. `precision` is that of the n_causal points of largest size;
    `false_positives` among these and `misses` among the causal points are counted by kind, as
    expected where equal scores are drawn at random. `points` are those planted, causal or not.
    """

    family: str
    group: str
    n_points: int
    n_causal: int
    auroc: float
    auroc_signed: float | None
    average_precision: float
    precision: float
    false_positives: dict[str, float]
    misses: dict[str, float]
    points: list[KnownPoint]


class CellRecord(StrictRecord):
    """Everything about a cell but its tensors.

    `settings` is all that decides the numbers; `provenance` what was around while they were made:
    seconds {fit, tune, evaluate}, passes {forward_rows, backward_rows}, peak_memory_bytes.
    `signed` says whether its scores have a sign.
    `intervention` is the kind of what steers (`bench.store.interventions.kind_of`), "" where the
    cell failed or was stored before that was said.
    """

    format: Literal[2] = 2
    id: str
    status: Literal["done", "failed"]
    error: CellError | None = None
    model: str
    task: str
    method: str
    trained: bool
    control: bool
    signed: bool = True
    draw: int = 0
    seed: int
    settings: PlainDict
    provenance: PlainDict = Field(default_factory=dict)
    grid: GridRecord | None = None
    prompts: dict[str, list[PromptRecord]] = {}
    dropped: dict[str, int] = {}
    beta: BetaRecord | None = None
    selected: list[SelectedRow] = []
    metrics: list[MetricRow] = []
    minimality: MinimalityRecord | None = None
    intervention: str = ""
    prices: list[PriceRecord] = []
    price_curve: PriceCurveRecord | None = None
    localisation: LocalisationRecord | None = None
    retrained: list[RetrainedRow] = []
    sparsity: SparsityRecord | None = None
    finding: list[FindingRecord] = []
    circuit: CircuitRecord | None = None
    sanity: SanityRecord | None = None
    specificity: SpecificityRecord | None = None
    one_point: OnePointRecord | None = None
    top_tokens: dict[str, str] = {}
    notes: list[Text] = []

    @property
    def main_price(self) -> PriceRecord | None:
        """The strength at the price at which methods are ranked, or at the first there is."""
        at = {price.price: price for price in self.prices}
        return at.get(MAIN_PRICE, next(iter(self.prices), None))

    @property
    def seconds(self) -> float:
        """What the cell took, all stages together; 0 where it does not say."""
        return float(sum((self.provenance.get("seconds") or {}).values()))

    @field_validator("id")
    @classmethod
    def _id_is_safe(cls, cell_id: str) -> str:
        return check_cell_id(cell_id)

    @model_validator(mode="after")
    def _failed_says_why(self) -> Self:
        if (self.status == "failed") != (self.error is not None):
            raise ValueError("a failed cell has an error, a done cell has none")
        return self
