"""The matrix as data: what a YAML file or a mapping may say, and how it is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from bench.sizes import SMALL, of_size, only
from bench.trust import trusted
from bench.yaml_file import load_yaml
from tasks.errors import UserInputError, nearest

PRESET_DIRECTORY = Path(__file__).parent / "presets"


T = TypeVar("T")
Each = Annotated[
    list[T],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    PlainSerializer(lambda values: values[0] if len(values) == 1 else values),
]
"""A value, or a list of values that each get cells of their own: a grid search."""


Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What torch draws by, and tables hold."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelChoice(_Strict):
    """A model by name, hub id or directory, and how it is run."""

    name: str
    dtype: str = "float32"
    device: str = "auto"
    packed: bool = True
    """Linear layers on the CPU run from oneDNN's packed weights (see `bench.packed`)."""
    autocast: Literal["none", "bfloat16", "float16"] = "none"
    """Matrix products of an fp32 model in this dtype (`torch.autocast`), from plain weights."""
    tf32: bool = False
    """Matrix products on CUDA with ten bits of mantissa."""
    digest: str | None = None
    """What the weights have to be, as `show` prints it (`model_digest` or `model_content`)."""


class Choice(BaseModel):
    """A task or a method by name; every other key is one of its own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were given."""
        return dict(self.model_extra or {})

    def over(self, names: Sequence[str]) -> list[Choice]:
        """This choice once for every combination of values of the settings in `names`."""
        return [
            self.model_copy(update=dict(zip(names, values, strict=True)))
            for values in product(*(self.settings[name] for name in names))
        ]


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


class PromptGrid(_Strict):
    """Prompts a split; a list for `train` or `seed` is a grid."""

    train: Each[Annotated[int, Field(ge=1)]] = [4]
    test: Annotated[int, Field(ge=1)] = 12
    shifted: Annotated[int, Field(ge=0)] = 12
    seed: Each[int] = [0]

    @property
    def each(self) -> list[PromptCounts]:
        """The prompt counts of the grid, one after the other."""
        return [
            PromptCounts(train=train, test=self.test, shifted=self.shifted, seed=seed)
            for train, seed in product(self.train, self.seed)
        ]


class ObjectiveWeights(_Strict):
    """Margin and weights of a cell's Psi (Eq. 9)."""

    margin: float
    lambda_f: float
    lambda_m: float


Weight = Annotated[float, Field(ge=0)]


class ObjectiveGrid(_Strict):
    """Margin and weights of Psi (Eq. 9); a list is a grid."""

    margin: Each[Weight] = [1.0]
    lambda_f: Each[Weight] = [1.0]
    lambda_m: Each[Weight] = [1e-3]

    @property
    def each(self) -> list[ObjectiveWeights]:
        """The objectives of the grid, one after the other."""
        return [
            ObjectiveWeights(margin=margin, lambda_f=lambda_f, lambda_m=lambda_m)
            for margin, lambda_f, lambda_m in product(self.margin, self.lambda_f, self.lambda_m)
        ]


class Controls(_Strict):
    """Draws of each control; 0 leaves the controls out."""

    draws: Annotated[int, Field(ge=0, le=10_000)] = 5


class Sweep(_Strict):
    """The beta sweep for display: on the first prompts of train and test."""

    points: Annotated[int, Field(ge=3, le=10_001)] = 21
    prompts: Annotated[int, Field(ge=1)] = 1
    reach: Annotated[float, Field(gt=0)] = 2.0
    """The largest |beta| of the sweep, in multiples of the strength that steers (|beta*| or 1)."""

    @model_validator(mode="after")
    def _odd(self) -> Sweep:
        if self.points % 2 == 0:
            raise ValueError(f"points has to be odd, so that beta = 0 is one; got {self.points}")
        return self


class Sparsity(_Strict):
    """Sparsity curves (`bench.sparsity`): at how many sizes k; 0 leaves them out.

    Each size costs one tuning of beta: about 36 forward rows a train prompt, 2 a test prompt.
    """

    points: Annotated[int, Field(ge=0)] = 0


class Agreement(_Strict):
    """Intervals of Kendall's tau."""

    resamples: Annotated[int, Field(ge=0)] = 200


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
    positions: str | list[int] = "all"
    keep_final_residual: bool = False
    controls: Controls = Controls()
    prompts: PromptGrid = PromptGrid()
    objective: ObjectiveGrid = ObjectiveGrid()
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    grid: Literal["product", "alone"] = "product"
    sweep: Sweep = Sweep()
    sparsity: Sparsity = Sparsity()
    agreement: Agreement = Agreement()
    figures: list[str] = []
    """Which figures its report draws (`reports.figures.FIGURES`); all if none are named."""
    rows_per_forward: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Prompts times strengths or points; `auto`: what the memory at hand takes (`bench.rows`)."""
    plugins: list[str] = []
    """Files that add methods, tasks or models (`bench.plugins`); see `bench.trust`."""
    output: Annotated[str, Field(pattern=r"^[^\x00]*$")] | None = None
    summary: str = ""

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


def preset_names() -> dict[str, str]:
    """Presets with one line each."""
    files = sorted(PRESET_DIRECTORY.glob("*.yaml"))
    return {file.stem: yaml.safe_load(file.read_text("utf-8"))["summary"] for file in files}


def load_config(
    source: str | Path | Mapping[str, object],
    *,
    size: str = SMALL,
    models: Sequence[str] = (),
    tasks: Sequence[str] = (),
    plugins: Sequence[Path] = (),
) -> Matrix:
    """The matrix of a preset's name, a YAML file, or a mapping.

    Args:
        source: what to read.
        size: which of its sizes (`bench.sizes`).
        models: run on these instead of its own.
        tasks: run on these instead of its own.
        plugins: files that add methods, tasks or models. Those that a YAML file names have to be
            among them; those of a mapping are the caller's own.

    Raises:
        UserInputError: for a preset or file that is not there, YAML that cannot be read, unknown
            keys (names the nearest) and values of the wrong type; says in which file and key.
            For a plug-in that only the file names (`bench.trust`).
    """
    changed = [*([] if size == SMALL else [size]), *models, *tasks]
    if isinstance(source, Mapping):
        data, where = dict(source), "the matrix"
    else:
        path = find_file(source)
        words = (Path(name).stem for name in changed)
        default = {"output": "/".join(["results", "-".join([path.stem, *words])])}
        data, where = {**default, **read_file(path)}, str(path)
        if "presets" in data:
            raise UserInputError(
                f"{path} lists presets instead of a matrix; run it as a whole by "
                f"`python -m bench run {path.stem}`, or one of {data['presets']}."
            )
        data = _beside(data, path.parent)
    matrix = parse(only(of_size(data, size, where), models, tasks), where)
    own = matrix.plugins if isinstance(source, Mapping) else []
    files = trusted([name for name in matrix.plugins if name not in own], plugins, where)
    return matrix.model_copy(update={"plugins": [*own, *files]})


def _beside(data: Any, folder: Path) -> Any:
    """`data` with every relative `path` that lies in `folder`, not where we are, made absolute."""
    if isinstance(data, Mapping):
        return {
            key: str(folder / value)
            if key == "path" and isinstance(value, str) and _lies_in(folder, value)
            else _beside(value, folder)
            for key, value in data.items()
        }
    return [_beside(item, folder) for item in data] if isinstance(data, list) else data


def _lies_in(folder: Path, name: str) -> bool:
    return not Path(name).is_file() and (folder / name).is_file()


def find_file(source: str | Path) -> Path:
    """The file of a preset's name or a path.

    Raises:
        UserInputError: if there is neither; names the nearest preset.
    """
    path = Path(source)
    preset = PRESET_DIRECTORY / f"{source}.yaml"
    if path.name == str(source) and preset.is_file():
        return preset
    if not path.is_file():
        hint = nearest(str(source), preset_names())
        raise UserInputError(f'There is no preset and no YAML file "{source}".{hint}')
    return path


def read_file(path: Path) -> dict[str, object]:
    """The mapping that a YAML file holds.

    Raises:
        UserInputError: if it holds anything else.
    """
    data = load_yaml(path)
    if not isinstance(data, Mapping):
        raise UserInputError(
            f"{path} holds {type(data).__name__}, not a mapping of keys to values."
        )
    return dict(data)


def parse(data: Mapping[str, object], where: str) -> Matrix:
    """Checks a matrix; `where` opens the message of an error.

    Raises:
        UserInputError: as `load_config`.
    """
    try:
        return Matrix.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(dict(problem), data) for problem in error.errors())
        raise UserInputError(f"{where}: {problems}") from None


def _explain(problem: dict[str, Any], data: object) -> str:
    """One of pydantic's problems with `data` as a sentence."""
    location = _written(problem["loc"], data)
    *parents, last = location or ("",)
    at = ".".join(str(step) for step in location)
    if problem["type"] == "extra_forbidden":
        return f'there is no key "{at}".{nearest(str(last), _keys(parents))}'
    if problem["type"] == "missing":
        return f'the key "{at}" is missing.'
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f'"{at}" is {problem["input"]!r}, but {message}.'


def _written(location: Sequence[str | int], data: object) -> Sequence[str | int]:
    """The part of a problem's location that the user wrote: one value is no list of one."""
    for place, step in enumerate(location):
        if isinstance(step, int) and not isinstance(data, list):
            return location[:place]
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
    return location


def _keys(parents: Sequence[str | int]) -> list[str]:
    """The keys that the mapping at `parents` may have."""
    model: type[BaseModel] = Matrix
    for step in parents:
        if isinstance(step, int):
            continue
        annotation: Any = model.model_fields[step].annotation
        model = getattr(annotation, "__args__", (annotation,))[0]
    return list(model.model_fields)
