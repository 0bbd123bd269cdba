"""Suites: a file that lists presets, which are run one after the other into one directory.

summary: all presets of the paper
presets: [table1, fig2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.matrix.config import find_file, load_config, preset_names, read_file
from bench.matrix.schema import Matrix
from bench.matrix.sizes import SMALL
from tasks.errors import UserInputError, nearest

KEYS = ("summary", "presets")


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
        size: of every preset.
        models: run on these instead of the presets' own.
        plugins: files that add methods, tasks or models.

    Raises:
        UserInputError: for unknown keys or presets (names the nearest), and whatever is wrong with
            a preset itself.
    """
    path = find_file(source)
    data = read_file(path)
    for key in data:
        if key not in KEYS:
            raise UserInputError(f'{path}: there is no key "{key}".{nearest(str(key), KEYS)}')
    names = data["presets"]
    if not isinstance(names, list) or not names:
        raise UserInputError(f'{path}: "presets" has to be a list of names of presets.')
    known = [name for name in preset_names() if name != path.stem]
    for name in names:
        if name not in known:
            raise UserInputError(f'{path}: there is no preset "{name}".{nearest(str(name), known)}')
    changed = [*([] if size == SMALL else [size]), *(Path(model).stem for model in models)]
    directory = output or Path("results") / "-".join([path.stem, *changed])
    matrices = {
        name: load_config(name, size=size, models=models, plugins=plugins) for name in names
    }
    return Suite(path.stem, directory, matrices)
