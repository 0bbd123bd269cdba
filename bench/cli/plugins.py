"""Commands for those who write methods, tasks and models: `check` and `new-method`."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import PluginOption
from tasks.errors import UserInputError, nearest
from tasks.text import visible

TEMPLATE = Path(__file__).with_name("new_method.jinja")
"""The file that `new-method` writes: a method that works, to be changed."""


def check(
    name: Annotated[str, typer.Argument(help="A method's, a task's or a model's name.")],
    plugin: PluginOption = None,
) -> None:
    """Runs the conformance tests on a method, task or model, and says in words what fails.

    Exit code 0: all passed. 1: some failed.
    """
    from bench.conformance.check import run_checks
    from bench.plugins import install

    install(plugin or ())
    failed = skipped = 0
    for kind, case_of, checks in _suites(name):
        typer.echo(f"{kind} {visible(name)}:")
        told = ""
        for outcome in run_checks(partial(case_of, name), checks):
            typer.echo(f"{outcome.verdict}  {outcome.words}")
            failed += outcome.verdict == "FAILED"
            skipped += outcome.verdict == "skipped"
            if outcome.problem not in ("", told):  # why many are skipped is said once
                typer.echo(f"        {visible(outcome.problem)}")
            told = outcome.problem
    found = f"{failed} check{'s' * (failed > 1)} failed" if failed else "all checks passed"
    left = f", {skipped} could not be judged" if skipped else ""
    typer.echo(f"{visible(name)}: {found}{left}.")
    raise typer.Exit(1 if failed else 0)


def _suites(name: str) -> list[tuple[str, Callable[[str], Any], Sequence[Callable[[Any], None]]]]:
    """What a name stands for, how it is made ready, and its checks.

    Raises:
        UserInputError: if it stands for nothing.
    """
    from bench.conformance import method_case, methods, models, tasks
    from bench.models.load import MODELS
    from methods import METHODS
    from tasks import TASKS

    other = name in METHODS or name in TASKS
    a_folder = "/" in name or (Path(name).is_dir() and not other)
    known: list[tuple[bool, Any]] = [
        (name in METHODS, ("method", method_case.Case, methods.CHECKS)),
        (name in TASKS, ("task", tasks.TaskCase, tasks.CHECKS)),
        (name in MODELS or a_folder, ("model", models.Case, models.CHECKS)),
    ]
    found = [suite for is_one, suite in known if is_one]
    if not found:
        names = [*METHODS, *TASKS, *MODELS]
        raise UserInputError(
            f'There is no method "{name}", nor a task or model.{nearest(name, names)}'
        )
    return found


def new_method(
    name: Annotated[str, typer.Argument(help="In lower case, such as my_method.")],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
) -> None:
    """Writes a working method as a file to start from."""
    from jinja2 import Template

    from methods import METHODS

    if not name.isidentifier() or name != name.lower():
        raise UserInputError(f'"{name}" is not lower-case letters, digits and _, as my_method.')
    if name in METHODS:
        raise UserInputError(f'There is a method "{name}" already; choose another name.')
    file = folder / f"{name}.py"
    if file.exists():
        raise UserInputError(f"{file} is there already and stays as it is.")
    title = "".join(word.capitalize() for word in name.split("_"))
    template = TEMPLATE.read_text("utf-8")
    taken = _taken(name, title, template)
    if taken:
        raise UserInputError(f'"{name}" cannot be a method: {taken}. Choose another name.')
    text = Template(template, keep_trailing_newline=True).render(name=name, title=title)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise UserInputError(f"--folder: {file} cannot be written: {error.strerror}.") from None
    typer.echo(f"wrote {visible(str(file))}")
    typer.echo(f"check it:  python -m bench check {name} --plugin {file}")
    typer.echo(f"run it:    python -m bench run MATRIX.yaml --plugin {file}")
    typer.echo(f"           with {name} among the methods of MATRIX.yaml")


def _taken(name: str, title: str, template: str) -> str | None:
    """Why no file of a method can have this name, or its class this title; None: it can."""
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "it is a word of Python's own"
    if not title.isidentifier() or keyword.iskeyword(title):
        return f'no class can be called "{title}"'
    if re.search(rf"import .*\b{title}\b", template):
        return f"its class would hide {title}, which it needs"
    found = importlib.util.find_spec(name)  # a folder of that name here is none
    if name in sys.stdlib_module_names or (found and found.origin):
        return f'its file would hide the module "{name}"'
    return None
