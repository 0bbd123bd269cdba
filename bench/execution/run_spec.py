"""What a run tells its workers once, and whether a worker has what the run needs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import __version__
from bench.execution.suite_files import CODE, ROOT, code_on_disk, differing, plug_ins_of
from bench.matrix.identity import NUMBERS_VERSION
from tasks.errors import UserInputError


class UnfitError(UserInputError):
    """A worker cannot take part in the run; the message goes on from "The worker X"."""


@dataclass(frozen=True)
class RunSpec:
    """What a run tells every worker once.

    Attributes:
        run: a name that no other run has; of the topic of its events too.
        matrix: as plain data.
        plugins: (path, source) of each of the matrix's plug-in files.
        files: content of the tasks' files, by their paths in the matrix.
        used: what the matrix uses of plug-ins (`plug_ins_of`).
        cell_timeout: seconds that a cell may take.
        load_timeout: seconds that loading a model and preparing tasks may take.
        threads: of each worker; None leaves torch its default.
        version: of the suite, and of its numbers.
        code: the suite's files (`code_on_disk`).
        client: host and process of the one who started the run.
    """

    run: str
    matrix: Mapping[str, Any]
    plugins: Sequence[tuple[str, bytes]]
    files: Mapping[str, bytes]
    used: Mapping[str, str]
    cell_timeout: float | None
    load_timeout: float | None
    threads: int | None
    version: tuple[str, int] = (__version__, NUMBERS_VERSION)
    code: Mapping[str, str] = field(default_factory=lambda: CODE)
    client: tuple[str, int] = field(default_factory=lambda: (socket.gethostname(), os.getpid()))

    def check_suite(self) -> None:
        """Raises UnfitError unless this process runs the suite that the run was started with."""
        if self.version != (__version__, NUMBERS_VERSION):
            raise UnfitError(
                f"has attribution-bench {__version__} (numbers {NUMBERS_VERSION}), the run was "
                f"started with {self.version[0]} (numbers {self.version[1]}). Install the same "
                "version everywhere."
            )
        if names := differing(CODE, self.code):
            raise UnfitError(
                f"has other code of attribution-bench {__version__} than the run was started with "
                f"({names}), so its numbers may be others. Install the same everywhere, and start "
                "the worker anew."
            )
        if names := differing(CODE, code_on_disk(ROOT)):
            raise UnfitError(
                f"was started before its attribution-bench was changed ({names}), and may have "
                "parts of both. Start it anew."
            )

    def check_plug_ins(self) -> None:
        """Raises UnfitError unless what the matrix uses of packages is the same here."""
        here = plug_ins_of(self.matrix)
        for what, wanted in self.used.items():
            mine, theirs = (text.partition(", files ")[0] for text in (here.get(what, ""), wanted))
            if not mine:
                raise UnfitError(
                    f"has no {what}. The run was started with that of {theirs}: install it there."
                )
            if here[what] != wanted:
                other = "other files of the same" if mine == theirs else f"that of {theirs}"
                raise UnfitError(
                    f"has the {what} of {mine}, but the run was started with {other}. Install the "
                    "same everywhere."
                )


@dataclass(frozen=True)
class Identities:
    """What the matrix's models and devices were when the run was planned.

    Attributes:
        digests: model name -> digest.
        stated: model name -> what its entry says (`bench.models.load.stated_of`).
        devices: device setting -> kind of device.
        contents: what models have to hold, by digest.
    """

    digests: dict[str, str] = field(default_factory=dict)
    stated: dict[str, dict[str, str]] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)


@contextmanager
def preparing() -> Iterator[None]:
    """Raises UnfitError for whatever goes wrong in the block: it is the worker's, not a cell's."""
    try:
        yield
    except UnfitError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, UserInputError) else f"{type(error).__name__}: "
        raise UnfitError(f"cannot take part: {kind}{error}") from error
