"""The folder of a report: it owns what it wrote, and touches nothing else."""

from pathlib import Path

from tasks.errors import UserInputError

MANIFEST = "files.txt"
"""In the folder: the files that the report wrote, a line each."""
PARTS = ("figures", "tables")
INDEX = "index.html"
OURS = "attribution-bench</title>"
"""What the page of a report without a manifest is known by."""


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
            if (path / inner).is_symlink():
                raise UserInputError(
                    f"{path / inner} is a symbolic link: nothing is written where it leads. Remove "
                    "it, or give another folder with --output."
                )
        index = path / INDEX
        self._unlisted = not (path / MANIFEST).is_file() and _is_ours(index)
        self._owned = set(self._listed())
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
            with (self.path / MANIFEST).open("a", encoding="utf-8") as stream:
                stream.write(f"{name}\n")
            self._owned.add(name)
        elif target.is_symlink():
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
        (self.path / MANIFEST).write_text(text, encoding="utf-8")
        return removed

    def _listed(self) -> list[str]:
        """What the manifest names; a line that no report writes names nothing."""
        try:
            lines = (self.path / MANIFEST).read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if _is_a_report_file(line)]


def _is_a_report_file(name: str) -> bool:
    part, _, file = name.rpartition("/")
    return name == INDEX or (part in PARTS and file not in ("", ".", ".."))


def _is_ours(index: Path) -> bool:
    return index.is_file() and OURS in index.read_text("utf-8", "replace")[:2000]


def _make(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserInputError(f"{folder} is a file; the report needs a folder of that name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserInputError(f"The report cannot be written to {folder}: {error}") from None
