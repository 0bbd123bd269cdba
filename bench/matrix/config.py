"""Where a matrix comes from: a preset, a YAML file or a mapping, at one of its sizes; and suites.

A file holds the small default and what other sizes change of it:

    models: [smollm2-135m]
    prompts: {train: 4}
    sizes:
      paper:
        models: [gpt2]

`python -m bench run FILE --size paper` merges that part over the rest: a mapping into a mapping,
anything else in the place of what was there. A suite is a file that lists presets, which are run
one after the other into one directory:

    summary: all presets of the paper
    presets: [table1, fig2]
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import load_yaml, parse
from tasks.errors import UserInputError, nearest

PRESET_DIRECTORY = Path(__file__).parents[1] / "presets"
SMALL = "small"
"""The size that a file has without its `sizes`."""
SUITE_KEYS = ("summary", "presets")


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
        size: which of its sizes (the keys of its `sizes`).
        models: run on these instead of its own.
        tasks: run on these instead of its own.
        plugins: files that add methods, tasks or models. Those that a YAML file names have to be
            among them; those of a mapping are the caller's own.

    Raises:
        UserInputError: for a preset or file that is not there, YAML that cannot be read, unknown
            keys (names the nearest) and values of the wrong type; says in which file and key.
            For a plug-in that only the file names (`trusted`).
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


def of_size(data: Mapping[str, object], size: str, where: str) -> dict[str, object]:
    """`data` at one of its sizes, without the key `sizes`.

    Raises:
        UserInputError: for a size that the matrix does not have (names the nearest), and `sizes`
            that are no mapping of names to mappings.
    """
    sizes = data.get("sizes", {})
    if not isinstance(sizes, Mapping) or not all(
        isinstance(part, Mapping) for part in sizes.values()
    ):
        raise UserInputError(f'{where}: "sizes" has to be a mapping of names to what they change.')
    plain = {key: value for key, value in data.items() if key != "sizes"}
    if size == SMALL:
        return plain
    if size not in sizes:
        raise UserInputError(f'{where} has no size "{size}".{nearest(size, [SMALL, *sizes])}')
    merged: dict[str, object] = _merged(plain, sizes[size])
    return merged


def _merged(base: Any, change: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(change, Mapping)):
        return change
    return {**base, **{key: _merged(base.get(key), value) for key, value in change.items()}}


def only(
    data: Mapping[str, object], models: Sequence[str] = (), tasks: Sequence[str] = ()
) -> dict[str, object]:
    """`data` with these models and tasks instead of its own; one that it has keeps its settings."""
    return {
        **data,
        **{
            key: [item for name in names for item in _listed(data.get(key), name)]
            for key, names in (("models", models), ("tasks", tasks))
            if names
        },
    }


def _listed(items: object, name: str) -> list[object]:
    """The items of that name in a list of names and mappings; the name if there are none."""
    known = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return [item for item in known if item.get("name") == name] or [name]


@dataclass(frozen=True)
class Suite:
    """Presets by name, each with its matrix and the directory of its results."""

    name: str
    directory: Path
    matrices: dict[str, Matrix]


def is_suite(source: str) -> bool:
    """Whether a preset's name or a file lists presets instead of a matrix.

    Raises:
        UserInputError: if there is no such preset or file, or it cannot be read.
    """
    return "presets" in read_file(find_file(source))


def load_suite(
    source: str,
    output: Path | None = None,
    *,
    size: str = SMALL,
    models: Sequence[str] = (),
    plugins: Sequence[Path] = (),
) -> Suite:
    """The suite of a preset's name or a file.

    Args:
        source: what to read.
        output: the directory; results/<name> by default. A preset's results are in a folder of
            its name in it.
        size: of every preset that has it; the others are left out.
        models: run on these instead of the presets' own.
        plugins: files that add methods, tasks or models.

    Raises:
        UserInputError: for unknown keys or presets (names the nearest), and whatever is wrong with
            a preset itself.
    """
    path = find_file(source)
    data = read_file(path)
    for key in data:
        if key not in SUITE_KEYS:
            raise UserInputError(f'{path}: there is no key "{key}".{nearest(str(key), SUITE_KEYS)}')
    names = data["presets"]
    if not isinstance(names, list) or not names:
        raise UserInputError(f'{path}: "presets" has to be a list of names of presets.')
    known = [name for name in preset_names() if name != path.stem]
    for name in names:
        if name not in known:
            raise UserInputError(f'{path}: there is no preset "{name}".{nearest(str(name), known)}')
    changed = [*([] if size == SMALL else [size]), *(Path(model).stem for model in models)]
    directory = output or Path("results") / "-".join([path.stem, *changed])
    files: dict[str, dict[str, Any]] = {name: read_file(find_file(name)) for name in names}
    sized = [name for name in names if size == SMALL or size in files[name].get("sizes", ())]
    matrices = {
        name: load_config(name, size=size, models=models, plugins=plugins)
        for name in sized or names
    }
    return Suite(path.stem, directory, matrices)


class UntrustedPluginError(UserInputError):
    """Data names a plug-in file that the user does not."""


def trusted(named: Sequence[str], given: Sequence[Path], where: str) -> list[str]:
    """The plug-in files that the user gives, whole, for data that names some itself.

    A file is known by its name: data from another machine has it in another folder. Whether it is
    the same code shows in the cells' identity.

    Args:
        named: by the matrix or the run.
        given: by the user, with `--plugin`.
        where: the file that names them.

    Raises:
        UntrustedPluginError: if one is named that is not given; says which flag trusts it.
    """
    files = [file.expanduser().resolve() for file in given]
    unknown = [name for name in named if Path(name).name not in {file.name for file in files}]
    if unknown:
        flags = " ".join(f"--plugin {shlex.quote(name)}" for name in unknown)
        raise UntrustedPluginError(
            f"{where} needs the plug-in {', '.join(unknown)}. Its code would run with your rights, "
            f"so it is only run when you name it yourself: read it, then add {flags}"
        )
    return [str(file) for file in files]
