"""Where a matrix comes from: a preset, a YAML file or a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.matrix.parse import parse
from bench.matrix.schema import Matrix
from bench.matrix.sizes import SMALL, of_size, only
from bench.matrix.trust import trusted
from bench.matrix.yaml_file import load_yaml
from tasks.errors import UserInputError, nearest

PRESET_DIRECTORY = Path(__file__).parents[1] / "presets"


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
        size: which of its sizes (`bench.matrix.sizes`).
        models: run on these instead of its own.
        tasks: run on these instead of its own.
        plugins: files that add methods, tasks or models. Those that a YAML file names have to be
            among them; those of a mapping are the caller's own.

    Raises:
        UserInputError: for a preset or file that is not there, YAML that cannot be read, unknown
            keys (names the nearest) and values of the wrong type; says in which file and key.
            For a plug-in that only the file names (`bench.matrix.trust`).
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
