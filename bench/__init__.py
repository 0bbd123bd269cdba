"""attribution-bench: if a method's scores say where a model does a task, can they steer it?

`bench.run("quick")` or `bench.run({...})` runs a matrix and gives its results as a tidy DataFrame.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pandas import DataFrame

__version__ = "0.1.0"


def _check_neighbours() -> None:
    """The suite's packages have common names: another `tasks` on the path would be a riddle.

    Raises:
        ImportError: names the foreign package, where it lies and what to do.
    """
    root = Path(__file__).resolve().parents[1]
    for name in ("tasks", "methods", "reports"):
        found = find_spec(name)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is None or origin.parents[1] != root:
            raise ImportError(
                f"attribution-bench in {root} needs its own package {name!r}, but Python finds "
                f"{origin or 'none'} first. Run from {root}, or take the other one off the path."
            )


_check_neighbours()


def run(
    config: str | Path | Mapping[str, object],
    output: str | Path | None = None,
    *,
    plugins: Sequence[str | Path] = (),
    **options: Any,
) -> DataFrame:
    """Runs a matrix and gives its tidy table: one row a cell x split x strength.

    Cells that are already in the output directory are not computed again; a cell that fails is a
    row with its reason.

    Args:
        config: a preset's name, a path of a YAML file, or the matrix as a mapping.
        output: the results directory; the config's own if None.
        plugins: files that add methods, tasks or models; a YAML file's own have to be among them.
        options: fields of `bench.matrix.options.RunOptions`, such as `workers=4` or
            `cell_timeout=600`.

    Raises:
        UserInputError: for a mistake in the config, before anything is computed.
    """
    from bench.execution.run import run_matrix
    from bench.matrix.config import load_config
    from bench.matrix.options import RunOptions

    matrix = load_config(config, plugins=[Path(file) for file in plugins])
    return run_matrix(matrix, output, options=RunOptions(**options)).store.table()
