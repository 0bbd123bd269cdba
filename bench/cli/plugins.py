"""Commands for those who write methods, tasks and models: `check` and `new-method`."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.text import harmless
from tasks.errors import UserInputError, nearest

METHOD = '''"""{title}: say here what the score of a point is, and who proposed it."""

from dataclasses import dataclass

import torch

from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class {title}(Method):
    """The score of a point is h . dLD/dh: replace it by your own.

    Attributes:
        power: a setting, as an example: |score| is raised to this power.
    """

    power: float = 1.0

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward and one backward of all prompts."""
        found = subject.activations_and_gradients(prompts, grid.site_layers)
        scores = torch.zeros((len(prompts), *grid.shape))
        for at, place in enumerate(grid.places):
            for layer in range(grid.n_layers):
                h, gradient = found[place.site, layer]
                products = (h * gradient)[:, list(grid.positions)].float()
                if place.head is not None:
                    products = products[:, :, place.head]
                scores[:, at, layer] = products.sum(dim=-1).cpu()
        scores = scores.sign() * scores.abs() ** self.power
        return Attribution(scores.mean(dim=0), prompt_scores=scores)


METHODS = {{"{name}": {title}}}
'''
"""The file that `new-method` writes: a method that works, to be changed."""


def check(
    name: Annotated[str, typer.Argument(help="A method's, a task's or a model's name.")],
    plugin: Annotated[
        list[Path] | None, typer.Option(help="A file that adds methods, tasks or models.")
    ] = None,
) -> None:
    """Runs the conformance tests on a method, task or model, and says in words what fails.

    Exit code 0: all passed. 1: some failed.
    """
    from bench.conformance.check import run_checks
    from bench.plugins import install

    install(plugin or ())
    failed = skipped = 0
    for kind, case_of, checks in _suites(name):
        typer.echo(f"{kind} {harmless(name)}:")
        told = ""
        for outcome in run_checks(partial(case_of, name), checks):
            typer.echo(f"{outcome.verdict}  {outcome.words}")
            failed += outcome.verdict == "FAILED"
            skipped += outcome.verdict == "skipped"
            if outcome.problem not in ("", told):  # why many are skipped is said once
                typer.echo(f"        {harmless(outcome.problem)}")
            told = outcome.problem
    found = f"{failed} check{'s' * (failed > 1)} failed" if failed else "all checks passed"
    left = f", {skipped} could not be judged" if skipped else ""
    typer.echo(f"{harmless(name)}: {found}{left}.")
    raise typer.Exit(1 if failed else 0)


def _suites(name: str) -> list[tuple[str, Callable[[str], Any], Sequence[Callable[[Any], None]]]]:
    """What a name stands for, how it is made ready, and its checks.

    Raises:
        UserInputError: if it stands for nothing.
    """
    from bench.conformance import methods, models, tasks
    from bench.conformance.task_case import TaskCase
    from bench.models.load import MODELS
    from methods import METHODS
    from tasks import TASKS

    found: list[tuple[str, Callable[[str], Any], Sequence[Callable[[Any], None]]]] = []
    if name in METHODS:
        found.append(("method", methods.Case, methods.CHECKS))
    if name in TASKS:
        found.append(("task", TaskCase, tasks.CHECKS))
    if name in MODELS or "/" in name:
        found.append(("model", models.Case, models.CHECKS))
    if not found:
        known = [*METHODS, *TASKS, *MODELS]
        raise UserInputError(
            f'There is no method "{name}", nor a task or model.{nearest(name, known)}'
        )
    return found


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
    title = "".join(word.capitalize() for word in name.split("_"))
    taken = _taken(name, title)
    if taken:
        raise UserInputError(f'"{name}" cannot be a method: {taken}. Choose another name.')
    file = folder / f"{name}.py"
    if file.exists():
        raise UserInputError(f"{file} is there already and stays as it is.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(METHOD.format(name=name, title=title), "utf-8")
    except OSError as error:
        raise UserInputError(f"--folder: {file} cannot be written: {error.strerror}.") from None
    typer.echo(f"wrote {harmless(str(file))}")
    typer.echo(f"check it:  python -m bench check {name} --plugin {file}")
    typer.echo(f"run it:    python -m bench run MATRIX.yaml --plugin {file}")


def _taken(name: str, title: str) -> str | None:
    """Why no file of a method can have this name, or its class this title; None: it can."""
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "it is a word of Python's own"
    if not title.isidentifier() or keyword.iskeyword(title):
        return f'no class can be called "{title}"'
    text = METHOD.format(name="name", title="Title")
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    if title in {alias.name for node in imports for alias in node.names}:
        return f"its class would hide {title}, which it needs"
    if name in sys.stdlib_module_names or _is_installed(name):
        return f'its file would hide the module "{name}"'
    return None


def _is_installed(name: str) -> bool:
    """Whether a module has this name, other than a file where we are."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module that was made by hand
        return True
    if found is None:
        return False
    places = [found.origin] if found.origin else list(found.submodule_search_locations or ())
    return any(Path(place).parent != Path.cwd() for place in places)
