"""The matrix as data: every key that a YAML file or a mapping may have, and what it may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from bench.store.records import MAIN_K, MAIN_PRICE
from tasks.registry import FITS, beyond


def _no_truth(value: object) -> object:
    """True and false are no numbers, though Python counts with them."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


Whole = Annotated[int, Field(ge=FITS.start, lt=FITS.stop), BeforeValidator(_no_truth)]
"""What tables hold."""
Count = Annotated[Whole, Field(ge=1)]
Number = Annotated[Whole, Field(ge=0)]
"""How many, if any. Also what torch draws by."""
Weight = Annotated[float, Field(ge=0), BeforeValidator(_no_truth)]

T = TypeVar("T")
Each = Annotated[
    list[T],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    PlainSerializer(lambda values: values[0] if len(values) == 1 else values),
]
"""A value, or a list of values that each get cells of their own: a grid search."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelChoice(_Strict):
    """A model by name, hub id or directory, and how it is run."""

    name: str
    dtype: str = "float32"
    device: str = "auto"
    packed: bool = True
    """Linear layers on the CPU run from oneDNN's packed weights (see `bench.models.packed`)."""
    autocast: Literal["none", "bfloat16", "float16"] = "none"
    """Matrix products of an fp32 model in this dtype (`torch.autocast`), from plain weights."""
    tf32: bool = False
    """Matrix products on CUDA with ten bits of mantissa."""
    bos: str | None = None
    """The token in front of every prompt, or "none"; None: what `models.tokenizer.bos_of` says."""
    digest: str | None = None
    """What the weights have to be, as `show` prints it (`model_digest` or `model_content`)."""

    @property
    def stated(self) -> dict[str, str]:
        """What the matrix says itself of what a model's entry may say (`models.load.STATED`)."""
        return {} if self.bos is None else {"bos": self.bos}


class Choice(BaseModel):
    """A task or a method by name; every other key is one of its own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="after")
    def _fits(self) -> Choice:
        for name, value in self.settings.items():
            if problem := beyond(value):
                raise ValueError(f'the setting "{name}" {problem}')
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were given."""
        return dict(self.model_extra or {})


class PromptCounts(_Strict):
    """How many prompts each split of a cell has, and the seed that draws them."""

    train: int
    test: int
    shifted: int
    seed: int

    @property
    def sizes(self) -> dict[str, int]:
        """Prompts a split."""
        return {"train": self.train, "test": self.test, "shifted": self.shifted}


class _Grid(_Strict):
    """Values of which some may be lists."""

    @property
    def lists(self) -> dict[str, list[float]]:
        """The values of everything that may have several."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, list)}

    def combinations(self) -> Iterator[dict[str, Any]]:
        """One value of everything, for every combination of the lists'."""
        for values in product(*self.lists.values()):
            yield {**dict(self), **dict(zip(self.lists, values, strict=True))}


class PromptGrid(_Grid):
    """Prompts a split; a list for `train` or `seed` is a grid."""

    train: Each[Count] = [4]
    test: Count = 12
    shifted: Number = 12
    seed: Each[Whole] = [0]

    @property
    def each(self) -> list[PromptCounts]:
        """The prompt counts of the grid, one after the other."""
        return [PromptCounts(**values) for values in self.combinations()]


class ObjectiveWeights(_Strict):
    """Margin and weights of a cell's Psi (Eq. 9)."""

    margin: float
    lambda_f: float
    lambda_m: float


class ObjectiveGrid(_Grid):
    """Margin and weights of Psi (Eq. 9); a list is a grid."""

    margin: Each[Weight] = [1.0]
    lambda_f: Each[Weight] = [1.0]
    lambda_m: Each[Weight] = [1e-3]

    @property
    def each(self) -> list[ObjectiveWeights]:
        """The objectives of the grid, one after the other."""
        return [ObjectiveWeights(**values) for values in self.combinations()]


class Controls(_Strict):
    """Draws of each control; 0 leaves the controls out."""

    draws: Annotated[Number, Field(le=10_000)] = 5
    """Of Random, which all methods of a task share."""
    shuffles: Annotated[Number, Field(le=10_000)] | None = None
    """Of every method's scores at random places; as many as `draws` if not said."""

    shuffle_trained: bool = True
    """Whether the scores of trained methods are shuffled too."""

    brief: bool = False
    """Whether all draws but the first of Random are measured for verdicts alone: at the price at
    which methods are ranked and at one number of points, neither at beta* nor at 1."""

    @property
    def per_method(self) -> int:
        """Draws of Shuffled for every method."""
        return self.draws if self.shuffles is None else self.shuffles


class Sweep(_Strict):
    """The beta sweep for display: on the first prompts of train and test."""

    points: Annotated[Whole, Field(ge=3, le=10_001)] = 21
    prompts: Count = 1
    reach: Annotated[Weight, Field(gt=0)] = 2.0
    """The largest |beta| of the sweep, in multiples of the strength that steers (|beta*| or 1)."""

    @model_validator(mode="after")
    def _odd(self) -> Sweep:
        if self.points % 2 == 0:
            raise ValueError(f"points has to be odd, so that beta = 0 is one; got {self.points}")
        return self


class Sparsity(_Strict):
    """Sparsity curves (`bench.evaluation.sparsity`): at how many sizes k; 0 leaves them out.

    Each size costs one tuning of beta: about 22 forward rows a train prompt, 2 a test prompt.
    """

    points: Number = 0


Price = Annotated[Weight, Field(gt=0)]
"""A divergence in nats: -F of Eq. 7."""


PRICE_CURVE = tuple(0.03 * 100 ** (step / 6) for step in range(7))
"""Prices on train of the price curve: 0.03 to 3 nats."""


class Prices(_Strict):
    """Divergences at which all methods are compared (`bench.evaluation.price`)."""

    at: list[Price] = [0.1, MAIN_PRICE, 1.0]
    """E_0 is measured on every split at the strength that costs so much on train."""
    curve: bool = True
    """The price curve: seven prices from 0.03 to 3 nats, on test."""


class Localisation(_Strict):
    """How well the few strongest points of a method steer (`bench.evaluation.localisation`)."""

    k: list[Count] = [1, 4, 16, 64]
    """Numbers of points; none leave it out."""
    price: Price = MAIN_PRICE


class Retrained(_Strict):
    """Scalars trained anew at a method's few strongest points, and at matched ones
    (`bench.evaluation.retrained`)."""

    k: list[Count] = []
    """Numbers of points; none leave it out."""
    draws: Number = 3
    """Of each kind of matched support."""
    steps: Count = 10
    train: Count = 4
    """Prompts to train on."""
    price: Price = MAIN_PRICE


class Circuit(_Strict):
    """How much of a task the nodes do that a method scores highest (`bench.evaluation.circuit`)."""

    over_positions: Literal["sum", "sum_of_sizes"] = "sum"
    """A node's score: the sum of its points' scores over positions, or of their sizes."""
    draws: Annotated[Number, Field(le=10_000)] = 30
    """Random circuits that one is tested against; a test of fewer than 29 cannot tell."""
    share: Annotated[float, Field(gt=0, lt=1), BeforeValidator(_no_truth)] = 0.1
    """Of the nodes, in the circuits that are tested."""


class Candidate(_Strict):
    """A setting of trained methods that is tried; what is not named stays as it is."""

    learning_rate: Annotated[Weight, Field(gt=0)] | None = None
    epochs: Count | None = None
    lambda_m: Weight | None = None
    lambda_f: Weight | None = None


class Stages(NamedTuple):
    """What is measured of a fitted intervention."""

    sweep: Sweep | None
    sparsity: Sparsity
    prices: Prices
    localisation: Localisation
    retrained: Retrained
    circuit: Circuit | None
    smallest_k: bool

    verdicts_alone: bool = False
    """Whether neither beta = 1 nor beta* are measured, nor how many parameters count."""
    select: Sequence[Candidate] = ()
    """Settings that a trained method is tried with."""

    @property
    def main_price(self) -> float:
        """The price at which methods are ranked, or the first there is."""
        at = self.prices.at
        return MAIN_PRICE if MAIN_PRICE in at or not at else at[0]

    def of_a_control(self, draw: int, shuffled: bool, brief: bool) -> Stages:
        """What is measured of a control's draw: after the first, what verdicts need.

        Further draws are there for the spread of what chance reaches: at the price at which methods
        are ranked, and at one number of points. Scalars are trained anew at the random supports
        that all methods share; scores at random places would be more of the same.

        Args:
            draw: which one.
            shuffled: whether it has the scores of a method.
            brief: see `Controls`.
        """
        anew = self.retrained if draw < self.retrained.draws and not shuffled else Retrained()
        if not draw and not (brief and shuffled):
            return self._replace(retrained=anew)
        at, k = self.prices.at, self.localisation.k
        return self._replace(
            prices=Prices(at=[self.main_price] if at else [], curve=False),
            localisation=self.localisation.model_copy(update={"k": [MAIN_K] if MAIN_K in k else k}),
            circuit=self.circuit and self.circuit.model_copy(update={"draws": 0}),
            retrained=anew,
            smallest_k=False,
            sweep=None,
            verdicts_alone=brief and bool(at),
        )


class Agreement(_Strict):
    """Intervals of Kendall's tau."""

    resamples: Number = 200


class Matrix(_Strict):
    """Models x tasks x methods x seeds x hyperparameters, and what all cells share.

    A list for a setting of a method, a weight of the objective or the number of prompts to train
    on stands for one cell a value; several lists for every combination (`grid: product`), or for
    each value with all others at their first (`grid: alone`).
    """

    models: Annotated[list[ModelChoice], Field(min_length=1)]
    tasks: Annotated[list[Choice], Field(min_length=1)]
    methods: Annotated[list[Choice], Field(min_length=1)]
    transfer: list[Choice] = []
    """Tasks on whose test prompts trained interventions that fit any length are evaluated too."""
    sites: Annotated[list[str], Field(min_length=1)] = ["attn_out", "mlp_out"]
    positions: str | list[Whole] = "all"
    keep_final_residual: bool = False
    controls: Controls = Controls()
    prompts: PromptGrid = PromptGrid()
    objective: ObjectiveGrid = ObjectiveGrid()
    seeds: Annotated[list[Number], Field(min_length=1)] = [0]
    grid: Literal["product", "alone"] = "product"
    sweep: Sweep = Sweep()
    sparsity: Sparsity = Sparsity()
    prices: Prices = Prices()
    localisation: Localisation = Localisation()
    retrained: Retrained = Retrained()
    circuit: Circuit | None = None
    """`{}` measures circuits; without it they are not."""
    smallest_k: bool = True
    """Search for the smallest number of parameters that keeps 90 % of the gain in E_0."""
    select: Annotated[list[Candidate], Field(max_length=4)] = []
    """Settings that every trained method is tried with, on a part of the train entities; the best
    one is used (`bench.evaluation.select`)."""
    agreement: Agreement = Agreement()
    figures: list[str] = []
    """Which figures its report draws (`reports.figures.FIGURES`); all if none are named."""
    rows_per_forward: Count | Literal["auto"] = "auto"
    """Prompts times strengths or points; `auto`: what memory takes (`evaluation.rows`), and in half
    precision a fixed number (`matrix.identity.rows_setting`)."""
    plugins: list[str] = []
    """Files that add methods, tasks or models (`bench.plugins`); see `config.trusted`."""
    output: Annotated[str, Field(pattern=r"^[^\x00]*$")] | None = None
    summary: str = ""

    @property
    def stages(self) -> Stages:
        """What is measured of every fitted intervention."""
        return Stages(
            self.sweep,
            self.sparsity,
            self.prices,
            self.localisation,
            self.retrained,
            self.circuit,
            self.smallest_k,
            select=self.select,
        )

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, data: Any) -> Any:
        """A name alone stands for {name: ...}."""
        if not isinstance(data, Mapping):
            return data
        named = {
            key: [{"name": item} if isinstance(item, str) else item for item in data[key]]
            for key in ("models", "tasks", "methods", "transfer")
            if isinstance(data.get(key), list)
        }
        return {**data, **named}
