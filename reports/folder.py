"""The folder of a report: it owns what it wrote, and touches nothing else."""

from pathlib import Path

from bench.store.files import replace_file
from tasks.errors import UserInputError

MANIFEST = "files.txt"
"""In the folder: the files that the report wrote, a line each."""
PARTS = ("figures", "tables")
INDEX = "index.html"


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
            if part.exists() and not part.is_dir():
                raise UserInputError(f"{part} is a file; the report needs a folder of that name")
            try:
                part.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserInputError(f"The report cannot be written to {part}: {error}") from None
        for inner in (path / name for name in (MANIFEST, *PARTS)):
            if inner.is_symlink():
                raise UserInputError(
                    f"{inner} is a symbolic link: nothing is written where it leads. Remove it, or "
                    "give another folder with --output."
                )
        manifest = path / MANIFEST
        listed = manifest.read_text("utf-8", "replace") if manifest.exists() else ""
        self._owned = set(filter(_is_a_report_file, listed.splitlines()))
        self._written: set[str] = set()
        self.file(INDEX)

    def file(self, name: str) -> Path:
        """Return where to write `figures/x.csv` or the like.

        Raises UserInputError where a file of somebody else is in the way.
        """
        target = self.path / name
        if name not in self._owned:
            if target.exists() or target.is_symlink():
                raise UserInputError(
                    f"{target} is there, and no report wrote it ({MANIFEST} does not name it): it "
                    "stays as it is. Move it, or give another folder with --output."
                )
            with (self.path / MANIFEST).open("a", encoding="utf-8") as stream:
                stream.write(f"\n{name}")  # a line that was cut off stays one by itself
            self._owned.add(name)
        if target.is_symlink():
            target.unlink()  # the folder may be somebody else's: what it leads to is not ours
        self._written.add(name)
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
        replace_file(self.path / MANIFEST, text.encode())
        return removed


def _is_a_report_file(name: str) -> bool:
    part, _, file = name.rpartition("/")
    return name == INDEX or (part in PARTS and file not in ("", ".", ".."))
