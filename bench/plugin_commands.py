"""Commands for those who write methods: `check` and `new-method`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.templates import METHOD
from tasks.errors import UserInputError


def check(
    name: Annotated[str, typer.Argument(help="A method's name.")],
    plugin: Annotated[list[Path] | None, typer.Option(help="A file that adds the method.")] = None,
) -> None:
    """Runs the conformance tests on a method, and says in words what fails.

    Exit code 0: all passed. 1: some failed.
    """
    from bench.conformance import run_checks
    from bench.plugins import install

    install(plugin or ())
    failed = 0
    for words, problem in run_checks(name):
        typer.echo(f"{'FAILED' if problem else 'passed'}  {words}")
        if problem:
            failed += 1
            typer.echo(f"        {problem}")
    typer.echo(f"{name}: {failed} checks failed." if failed else f"{name}: all checks passed.")
    raise typer.Exit(1 if failed else 0)


def new_method(
    name: Annotated[str, typer.Argument(help="In lower case, such as my_method.")],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
) -> None:
    """Writes a working method as a file to start from."""
    from methods import METHODS

    if not name.isidentifier() or name != name.lower():
        raise UserInputError(f'"{name}" is not lower-case letters, digits and _, as my_method.')
    if name in METHODS:
        raise UserInputError(f'There is a method "{name}" already; choose another name.')
    file = folder / f"{name}.py"
    if file.exists():
        raise UserInputError(f"{file} is there already and stays as it is.")
    title = "".join(word.capitalize() for word in name.split("_"))
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(METHOD.format(name=name, title=title), "utf-8")
    typer.echo(f"wrote {file}")
    typer.echo(f"check it:  python -m bench check {name} --plugin {file}")
    typer.echo(f"run it:    python -m bench run MATRIX.yaml --plugin {file}")
