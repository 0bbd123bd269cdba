"""Files that are whole or not there, and JSON that notices every change of a byte. Torch-free.

A sealed file is JSON whose last key is the sha256 of all bytes before it: whatever is altered, cut
off or added afterwards, be it white space, no longer fits.
"""

import hashlib
import json
import os
import re
import shutil
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from bench.store.schema import strict_json

TEMPORARY = ".writing-"
"""How names of what is being written begin; what bears one when nobody writes was abandoned."""
SET_ASIDE = "set-aside"
REASONS = "reasons.jsonl"
MAX_JSON_BYTES = 64 * 2**20
"""More is not read: a run.json of 100,000 cells has less, and memory stays bounded."""
MAX_BYTES = 2 * 2**30
"""Of the other files of a run: a vector at every point of a model of 70 billion parameters fits."""

_SEAL = re.compile(
    rb'(?:,\n "tensors_sha256": "(?P<tensors>[0-9a-f]{64})")?'
    rb'(?P<own>,\n "sha256": "(?P<digest>[0-9a-f]{64})"\n}\n)\Z'
)
_SEAL_BYTES = 300


class DamagedError(ValueError):
    """A file is not what was written; the message goes on after the file's name."""


def open_file(file: Path, limit: int = MAX_BYTES) -> BufferedReader:
    """Open a file that has to be one itself, for reading: what it is and how long is known first.

    Raises:
        DamagedError: for a symbolic link, a pipe, a device, a folder, and for more than `limit`
            bytes: nothing of it is read.
        OSError: where there is none, or it cannot be read.
    """
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError("is no file but a link, folder, pipe or device: it is not read")
    if status.st_size > limit:
        raise DamagedError(
            f"has {status.st_size} bytes, more than any file of the suite: it is not read"
        )
    return file.open("rb")


def read_file(file: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file. Errors as `open_file`."""
    with open_file(file, limit) as stream:
        return stream.read()


def seal(text: str, tensors_sha256: str = "") -> bytes:
    """The JSON object `text` with the digest of the file beside it, if any, and its own at last."""
    body = text.rstrip().removesuffix("}").rstrip().encode()
    if tensors_sha256:
        body += f',\n "tensors_sha256": "{tensors_sha256}"'.encode()
    return body + f',\n "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def unseal(content: bytes) -> tuple[bytes, str]:
    """The JSON object that was sealed, and the digest of the file beside it ("" for none).

    Raises:
        DamagedError: if the bytes are not those that `seal` gave.
    """
    found = _SEAL.search(content, max(0, len(content) - _SEAL_BYTES))
    if found is None:
        raise DamagedError(
            f"({len(content)} bytes) is cut off, or is not what the suite wrote: it has no seal"
        )
    if hashlib.sha256(content[: found.start("own")]).hexdigest() != found["digest"].decode():
        raise DamagedError("is not what the suite wrote: it has been altered since")
    return content[: found.start()] + b"\n}", (found["tensors"] or b"").decode()


def seal_of(file: Path) -> str:
    """The digest that a sealed file bears, unchecked: tells versions of a file apart at once."""
    with open_file(file) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _SEAL_BYTES))
        found = _SEAL.search(stream.read())
    return "" if found is None else found["digest"].decode()


def read_sealed(file: Path) -> tuple[bytes, str]:
    """`unseal` of a file.

    Raises:
        DamagedError: if the file was altered, cut off, or is far too large to be one; and as
            `open_file`.
    """
    return unseal(read_file(file, MAX_JSON_BYTES))


def dump(data: object) -> str:
    """Strict JSON text, a key a line."""
    return json.dumps(strict_json(data), allow_nan=False, indent=1)


def parse(content: bytes) -> dict[str, Any]:
    """The object in strict JSON.

    Raises:
        DamagedError: if it is none, is not UTF-8, or is nested too deeply.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        data = json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"is not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise DamagedError("is not a JSON object")
    return data


def file_digest(file: Path) -> str:
    """The sha256 of a file. Errors as `open_file`."""
    with open_file(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_file(file: Path, content: bytes) -> None:
    """Write a new file that is on the disk when this returns. Raises OSError where one is there."""
    with file.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_file(file: Path, content: bytes) -> None:
    """Give a file new contents in one step: after a crash it has the old ones or the new ones."""
    temporary = file.with_name(f"{TEMPORARY}{os.getpid()}-{file.name}")
    temporary.unlink(missing_ok=True)  # a link that somebody put there, or of a process before
    try:
        write_file(temporary, content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    sync(file.parent)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link but not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(directory: Path) -> None:
    """Make names in `directory` durable, where the system can (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def set_aside(directory: Path, path: Path, reason: str, *, keep: bool = False) -> Path:
    """Move `path` (with `keep`: a copy of it) into `set-aside/` of a run, with the reason.

    Returns:
        where it is now.
    """
    folder = directory / SET_ASIDE
    folder.mkdir(exist_ok=True)
    name = (
        path.name
        if path.parent.name in ("cells", directory.name)
        else (f"{path.parent.name}--{path.name}")
    )
    target = folder / name
    number = 1
    while target.exists() or target.is_symlink():
        number += 1
        target = folder / f"{name}.{number}"
    if keep:
        shutil.copy2(path, target, follow_symlinks=False)
    else:
        path.rename(target)
    with (folder / REASONS).open("a", encoding="utf-8") as stream:
        entry = {"name": target.name, "was": name, "reason": reason}
        stream.write(json.dumps(entry) + "\n")
    return target


def set_aside_reasons(directory: Path) -> dict[str, str]:
    """Why things were set aside, by the name that they had; of each the last reason.

    A line that cannot be read is passed over: the list only explains.
    """
    try:
        text = read_file(directory / SET_ASIDE / REASONS, MAX_JSON_BYTES).decode("utf-8", "replace")
    except (OSError, DamagedError):
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            found[str(entry.get("was", entry["name"]))] = str(entry["reason"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found
