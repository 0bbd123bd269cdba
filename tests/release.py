"""What `tox -e release -- VERSION` runs first: the version, everywhere where it stands.

The CHANGELOG's `[Unreleased]` becomes the version with the day's date, below a new empty one. What
is changed is for you to look at and commit.
"""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "pyproject.toml": r'^(version = ")[^"]+(")$',
    "bench/__init__.py": r'^(__version__ = ")[^"]+(")$',
    "CITATION.cff": r"^(version: )\S+()$",
}


def bumped(version: str, root: Path = ROOT) -> dict[Path, str]:
    """Return the files with the new version in them; raises ValueError where one has no place."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f"{version!r} is no version such as 0.2.0")
    found = {}
    for name, pattern in PLACES.items():
        text = (root / name).read_text("utf-8")
        text, count = re.subn(pattern, rf"\g<1>{version}\g<2>", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{name} has the version in {count} places")
        found[root / name] = text
    today = datetime.now(UTC).date().isoformat()
    changes = (root / "CHANGELOG.md").read_text("utf-8")
    heading = "## [Unreleased]\n"
    if changes.count(heading) != 1:
        raise ValueError('CHANGELOG.md needs one heading "## [Unreleased]"')
    dated = f"{heading}\n## [{version}] - {today}\n"
    return {**found, root / "CHANGELOG.md": changes.replace(heading, dated)}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say which version: tox -e release -- 0.2.0")
    for path, text in bumped(sys.argv[1]).items():
        path.write_text(text, encoding="utf-8")
