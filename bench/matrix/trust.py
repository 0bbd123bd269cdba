"""Which plug-in files are run: those that the user names, never those that only data names.

A matrix file and a run directory may come from anybody. Both may say which plug-in files they
need, and a file of code runs with the rights of whoever starts the suite.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import UserInputError


class UntrustedPluginError(UserInputError):
    """Data names a plug-in file that the user does not."""


def trusted(named: Sequence[str], given: Sequence[Path], where: str) -> list[str]:
    """The plug-in files that the user gives, whole, for data that names some itself.

    A file is known by its name: data from another machine has it in another folder. Whether it is
    the same code shows in the cells' identity.

    Args:
        named: by the matrix or the run.
        given: by the user, with `--plugin`.
        where: the file that names them.

    Raises:
        UntrustedPluginError: if one is named that is not given; says which flag trusts it.
    """
    files = [file.expanduser().resolve() for file in given]
    unknown = [name for name in named if Path(name).name not in {file.name for file in files}]
    if unknown:
        flags = " ".join(f"--plugin {shlex.quote(name)}" for name in unknown)
        raise UntrustedPluginError(
            f"{where} needs the plug-in {', '.join(unknown)}. Its code would run with your rights, "
            f"so it is only run when you name it yourself: read it, then add {flags}"
        )
    return [str(file) for file in files]
