"""Which code of the suite a process runs: workers with another one would give other numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

PACKAGES = ("bench", "methods", "tasks")
"""Those that decide numbers; reports are made of what is stored."""
ENDINGS = (".py", ".json", ".tsv")
"""Of code and of what the tasks read. Presets (YAML) reach workers as the matrix."""
NAMED = 3
"""Files that differ are named, as long as there are no more."""


def code_on_disk(root: Path) -> dict[str, str]:
    """A short digest of each of the suite's files below `root`, whatever its line endings are."""
    files = [file for package in PACKAGES for file in (root / package).rglob("*")]
    return {
        file.relative_to(root).as_posix(): _digest(file)
        for file in files
        if file.suffix in ENDINGS and file.is_file() and not _hidden(file.relative_to(root))
    }


def _hidden(file: Path) -> bool:
    """What editors and notebooks leave beside code is no part of it."""
    return any(part.startswith(".") for part in file.parts)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]


ROOT = Path(__file__).resolve().parents[2]
CODE = code_on_disk(ROOT)
"""Of this process: what it has imported stays what it is when a file is changed afterwards."""


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The files in which two copies of the suite differ, in words; "" if they are the same."""
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
