"""attribution-bench: if a method's scores say where a model does a task, can they steer it?

`bench.run("quick")` or `bench.run({...})` runs a matrix, `bench.open("results/quick")` opens one
that was run, `bench.compare(methods, model, prompts)` runs a few prompts of one's own. Each gives a
`bench.notebook.Run`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pandas import DataFrame

    from bench.notebook import Run

__version__ = "0.1.0"


def _check_neighbours() -> None:
    """The suite's packages have common names: another `tasks` on the path would be a riddle.

    Raises:
        ImportError: names the foreign package, where it lies and what to do.
    """
    root = Path(__file__).resolve().parents[1]
    for name in ("tasks", "methods", "reports"):
        found = find_spec(name)
        places = found and [*(found.submodule_search_locations or ()), found.origin]
        first = Path(places[0]).resolve() if places and places[0] else None
        if first != root / name:
            raise ImportError(
                f"attribution-bench in {root} needs its own package {name!r}, but Python finds "
                f"{first or 'none'} first. Run from {root}, or take the other one off the path."
            )


_check_neighbours()


def run(
    config: str | Path | Mapping[str, object],
    output: str | Path | None = None,
    *,
    plugins: Sequence[str | Path] = (),
    **options: Any,
) -> Run:
    """Runs a matrix and gives its results, as `open` does.

    Cells that are already in the output directory are not computed again; a cell that fails is a
    row of the table with its reason.

    Args:
        config: a preset's name, a path of a YAML file, or the matrix as a mapping.
        output: the results directory; the config's own if None.
        plugins: files that add methods, tasks or models; a YAML file's own have to be among them.
        options: fields of `bench.matrix.options.RunOptions`, such as `workers=4` or
            `cell_timeout=600`.

    Raises:
        UserInputError: for a mistake in the config, before anything is computed.
    """
    from bench.execution.progress import progress
    from bench.execution.run import run_matrix
    from bench.matrix.config import load_config
    from bench.matrix.options import RunOptions
    from bench.notebook import Run

    matrix = load_config(config, plugins=[Path(file) for file in plugins])
    with progress() as watcher:
        outcome = run_matrix(matrix, output, watcher, RunOptions(**options))
    return Run(outcome.store.directory)


def open(directory: str | Path) -> Run:
    """Opens a results directory: its tables, figures, scores and interventions.

    Raises:
        UserInputError: where it is none.
    """
    from bench.notebook import Run

    return Run(directory)


def compare(
    methods: Sequence[str | Mapping[str, object]], model: Any, prompts: DataFrame, **options: Any
) -> Run:
    """Runs methods on a few prompts of one's own, on a model by name or one in memory.

    `bench.own_prompts.compare` says what it takes.
    """
    from bench.own_prompts import compare

    return compare(methods, model, prompts, **options)
