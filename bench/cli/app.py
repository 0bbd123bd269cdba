"""The command line, `python -m bench`; commands with much to say have files of their own."""

from __future__ import annotations

import errno
import sys

import typer

from bench.cli import plugins, steer, stored
from bench.cli.exchange import export_scores
from bench.cli.plan import plan
from bench.cli.publish import publish, verify
from bench.cli.report import report
from bench.cli.run import USER_ERROR, run
from bench.cli.tasks import tasks
from bench.matrix.config import preset_names
from tasks.errors import UserInputError
from tasks.text import visible

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compares attribution and steering methods on language models: "
    "if scores say where a model does a task, can they steer it?",
)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""A report or a file that was asked for cannot be written either."""
NO_WAY = (
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
)
"""A path that the user gave cannot be read, or made."""


def setup() -> None:
    """Fetches the embedded model and makes it ready, so that nothing later needs the network.

    Any command that uses the model does so at first; this one does nothing else.
    """
    from bench.models.embedded import embedded_folder

    typer.echo(f"The embedded model is ready in {visible(str(embedded_folder()))}.")


COMMANDS = (
    *(run, plan, report, tasks),
    *(stored.status, stored.show, stored.reproduce, stored.rm),
    *(steer.export, steer.apply, export_scores),
    *(publish, verify),
    *(plugins.check, plugins.new_method, setup),
)
for command in COMMANDS:
    app.command()(command)


@app.command(name="list")
def list_names() -> None:
    """Lists models, tasks, methods, presets and figures, one line each."""
    from bench.models.load import MODELS
    from bench.plugins import install
    from methods import METHODS
    from reports.figures import FIGURES
    from tasks import TASKS

    install()

    tables = {
        "models": {name: entry.summary for name, entry in MODELS.items()},
        "tasks": {name: entry.summary for name, entry in TASKS.items()},
        "methods": {name: entry.summary for name, entry in METHODS.items()},
        "presets": preset_names(),
        "figures": {name: entry.summary for name, entry in FIGURES.items()},
    }
    width = max(len(name) for table in tables.values() for name in table)
    for title, table in tables.items():
        typer.echo(f"{title}:")
        for name, summary in table.items():
            typer.echo(f"  {visible(name.ljust(width))}  {visible(summary)}")


def main() -> None:
    """Runs the command; a mistake in the user's input ends in one paragraph and exit code 2."""
    try:
        app()
    except UserInputError as error:
        lines = (visible(line) for line in str(error).splitlines())
        print("Error: " + "\n".join(lines), file=sys.stderr)
        sys.exit(USER_ERROR)
    except OSError as error:
        if error.errno not in NO_ROOM + NO_WAY:
            raise
        where = visible(str(error.filename or "the disk"))
        right = "Make room, and start again" if error.errno in NO_ROOM else "Name another path"
        print(f"Error: {where}: {error.strerror}. {right}.", file=sys.stderr)
        sys.exit(USER_ERROR)
