"""What a run tells its workers once, and whether a worker has what the run needs.

That is the suite's code and the packages of its plug-ins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench import __version__
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from methods import METHODS
from tasks import TASKS
from tasks.errors import UserInputError

PACKAGES = ("bench", "methods", "tasks")
"""Those that decide numbers; reports are made of what is stored."""
CODE_ENDINGS = (".py", ".json", ".tsv")
"""Of code and of what the tasks read. Presets (YAML) reach workers as the matrix."""
NAMED = 3
"""Files that differ are named, as long as there are no more."""
TABLES = {"method": METHODS, "task": TASKS}
"""Models are not among them: only those workers need one that compute its cells."""


class UnfitError(UserInputError):
    """A worker cannot take part in the run; the message goes on from "The worker X"."""


def unfit(error: Exception) -> UnfitError:
    """Why a worker cannot take part, in words, where it cannot even run what it is asked for."""
    if isinstance(error, UnfitError):
        return error
    kind = "" if isinstance(error, UserInputError) else f"{type(error).__name__}: "
    return UnfitError(
        f"cannot take part: {kind}{error}. The same attribution-bench and its requirements have to "
        "be installed there."
    )


def code_on_disk(root: Path) -> dict[str, str]:
    """A short digest of each of the suite's files below `root`, whatever its line endings are.

    What editors and notebooks leave beside code, in hidden folders, is no part of it.
    """
    files = [file for package in PACKAGES for file in (root / package).rglob("*")]
    names = {file.relative_to(root): file for file in files if file.suffix in CODE_ENDINGS}
    return {
        name.as_posix(): hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]
        for name, file in names.items()
        if file.is_file() and not any(part.startswith(".") for part in name.parts)
    }


CODE = code_on_disk(Path(__file__).resolve().parents[2])
"""Of this process: what it has imported stays what it is when a file is changed afterwards."""


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The files in which two copies of the suite differ, in words; "" if they are the same."""
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def plug_ins(names: Collection[str] | None = None) -> dict[str, str]:
    """The version of each plug-in in the tables, or of those alone that are called by `names`.

    Returns:
        'method "my_norm"' -> its package's name, version and a digest of the package's files
        (`Entry.version`), those of plug-in files too.
    """
    return {
        f'{kind} "{name}"': entry.version
        for kind, table in TABLES.items()
        for name, entry in table.items()
        if entry.version and (names is None or name in names)
    }


def _texts(data: Any) -> Iterator[str]:
    """All strings within: a task may be a part of a mixture."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list | tuple):
        for item in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(item)


@dataclass(frozen=True)
class RunSpec:
    """What a run tells every worker once.

    Attributes:
        run: a name that no other run has; of the topic of its events too.
        options: time limits, and the threads of each worker.
        plugins: (path, source) of each of the matrix's plug-in files.
        used: what the matrix uses of plug-ins (`plug_ins`).
        logs: where workers of this machine keep what they print; None for workers elsewhere.
        version: of the suite.
        code: the suite's files (`code_on_disk`).
    """

    run: str
    options: RunOptions
    plugins: Sequence[tuple[str, bytes]]
    used: Mapping[str, str]
    logs: Path | None
    version: str
    code: Mapping[str, str]

    @staticmethod
    def of(matrix: Matrix, options: RunOptions, logs: Path | None) -> RunSpec:
        """What a run of this process is."""
        return RunSpec(
            f"attribution-bench-{uuid4().hex}",
            options,
            [(path, Path(path).expanduser().read_bytes()) for path in matrix.plugins],
            plug_ins({*_texts(matrix.model_dump(include={"tasks", "transfer", "methods"}))}),
            logs,
            __version__,
            CODE,
        )

    def check_suite(self) -> None:
        """Raises UnfitError unless this process runs the suite that the run was started with."""
        if names := differing(CODE, self.code):
            raise UnfitError(
                f"has other code of attribution-bench {__version__} than the {self.version} that "
                f"the run was started with ({names}), so its numbers may be others. Install the "
                "same everywhere, and start the worker anew."
            )

    def check_plug_ins(self) -> None:
        """Raises UnfitError unless what the matrix uses of packages is the same here."""
        here = plug_ins()
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
