"""The command `setup`."""

from __future__ import annotations

import typer

from tasks.text import visible


def setup() -> None:
    """Fetches the embedded model and makes it ready, so that nothing later needs the network.

    Any command that uses the model does so at first; this one does nothing else.
    """
    from bench.models.embedded import embedded_folder

    typer.echo(f"The embedded model is ready in {visible(str(embedded_folder()))}.")
