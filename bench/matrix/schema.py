"""The matrix as data: every key that a YAML file or a mapping may have, and what it may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from bench.matrix.fields import STRICT, Choice, Count, Each, Number, Weight, Whole, choices
from bench.matrix.stages import (
    Candidate,
    Circuit,
    Localisation,
    OnePoint,
    Prices,
    Retrained,
    Sanity,
    Sparsity,
    Specificity,
    Stages,
    Sweep,
)


class _Strict(BaseModel):
    model_config = STRICT


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
    one_point: OnePoint | None = None
    """`{}` measures steering with single points; without it that is not done."""
    sanity: Sanity | None = None
    """`{}` fits methods again on a model whose weights are permuted; without it they are not."""
    specificity: Specificity | None = None
    """`{}` takes interventions to other tasks and to a neutral text; without it they are not."""
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
        return Stages(**{key: value for key, value in self if key in Stages._fields})

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, data: Any) -> Any:
        """A name alone stands for {name: ...}."""
        if not isinstance(data, Mapping):
            return data
        keys = ("models", "tasks", "methods", "transfer")
        return {**data, **{key: choices(data[key]) for key in keys if key in data}}
