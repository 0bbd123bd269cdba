"""The folder of a report: it owns what it wrote, and touches nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import UserInputError

MANIFEST = "files.txt"
"""In the folder: the files that the report wrote, a line each."""
LOCK = ".lock"
"""In the folder: held by the process that writes the report; a killed one holds nothing."""
PATIENCE_SECONDS = 600
PARTS = ("figures", "tables")
INDEX = "index.html"
OURS = "attribution-bench</title>"
"""What the page of a report without a manifest is known by."""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Write a report into `path` in the block, while no other process does: wait for it.

    Raises UserInputError where the folder cannot be had, or the other one does not end.
    """
    _make(path)
    _refuse_link(path / LOCK)
    try:
        with FileLock(path / LOCK, timeout=PATIENCE_SECONDS):
            yield
    except Timeout:
        raise UserInputError(
            f"{path} is being written by another process. Wait until it is done, or give another "
            "folder with --output."
        ) from None


class ReportFolder:
    """Hands out paths to write to, and in the end removes what an earlier report left there.

    Every file is named in the manifest before it is written, so that a report that was cut off
    owns what it left behind.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder, or take over that of an earlier report.

        Raises UserInputError where it is a file, cannot be written, has an index.html that no
        report wrote, or holds links by which something else would be written.
        """
        self.path = path
        for part in (path, *(path / name for name in PARTS)):
            _make(part)
        for inner in (MANIFEST, *PARTS):
            _refuse_link(path / inner)
        index = path / INDEX
        listed = self._manifest()
        self._owned = {line for line in listed.splitlines() if _is_a_report_file(line)}
        whole = INDEX in self._owned and listed.endswith("\n")  # else: cut off, or never written
        self._unlisted = not whole and _is_ours(index)
        if listed and not listed.endswith("\n"):
            self._add("")
        self._written: dict[str, None] = {}
        self.file(INDEX)

    def file(self, name: str) -> Path:
        """Return where to write `figures/x.csv` or the like.

        Raises UserInputError where a file of somebody else is in the way.
        """
        target = self.path / name
        if name not in self._owned:
            if not self._unlisted and (target.exists() or target.is_symlink()):
                raise UserInputError(
                    f"{target} is there, and no report wrote it ({MANIFEST} does not name it): it "
                    "stays as it is. Move it, or give another folder with --output."
                )
            self._add(name)
            self._owned.add(name)
        if target.is_symlink():
            target.unlink()  # the folder may be somebody else's: what it leads to is not ours
        self._written[name] = None
        return target

    def finish(self) -> list[Path]:
        """Remove what an earlier report wrote and this one did not; return what was removed."""
        removed = []
        for name in sorted(self._owned.difference(self._written)):
            target = self.path / name
            if target.is_file() or target.is_symlink():
                target.unlink()
                removed.append(target)
        text = "".join(f"{name}\n" for name in sorted(self._written))
        temporary = self.path / f"{MANIFEST}.new"
        temporary.unlink(missing_ok=True)  # of a report that was cut off, or a link
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / MANIFEST)
        return removed

    def _manifest(self) -> str:
        """The manifest as it is; a line that no report writes names nothing."""
        try:
            return (self.path / MANIFEST).read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _add(self, line: str) -> None:
        with (self.path / MANIFEST).open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")


def _is_a_report_file(name: str) -> bool:
    part, _, file = name.rpartition("/")
    return name == INDEX or (part in PARTS and file not in ("", ".", ".."))


def _is_ours(index: Path) -> bool:
    return index.is_file() and OURS in index.read_text("utf-8", "replace")[:2000]


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise UserInputError(
            f"{path} is a symbolic link: nothing is written where it leads. Remove it, or give "
            "another folder with --output."
        )


def _make(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserInputError(f"{folder} is a file; the report needs a folder of that name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserInputError(f"The report cannot be written to {folder}: {error}") from None
