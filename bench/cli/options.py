"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MatrixArgument = Annotated[str, typer.Argument(help="A preset's name or the path of a YAML file.")]
CellArgument = Annotated[
    str, typer.Argument(help="A cell's directory, or part of its id (then with --results).")
]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", "-r", help="The results directory of the cell.")
]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A file that adds methods, tasks or models.")
]
