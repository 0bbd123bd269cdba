"""attribution-bench: if a method's scores say where a model does a task, can they steer it?

`bench.run("quick")` or `bench.run({...})` runs a matrix and gives its results as a tidy DataFrame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pandas import DataFrame

__version__ = "0.1.0"


def run(config: str | Path | Mapping[str, object], output: str | Path | None = None) -> DataFrame:
    """Runs a matrix and gives its tidy table: one row a cell x split x strength.

    Cells that are already in the output directory are not computed again; a cell that fails is a
    row with its reason.

    Args:
        config: a preset's name, a path of a YAML file, or the matrix as a mapping.
        output: the results directory; the config's own if None.

    Raises:
        UserInputError: for a mistake in the config, before anything is computed.
    """
    from bench.config import load_config
    from bench.runner import run_matrix

    return run_matrix(load_config(config), output).store.table()
