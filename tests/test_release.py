"""The version stands in several places, and they agree."""

import re
from pathlib import Path

import pytest
import yaml

import bench
from methods import METHODS
from tests.release import ROOT, bumped


def test_a_new_version_stands_everywhere_and_the_old_nowhere() -> None:
    changed = {path.name: text for path, text in bumped("7.8.9").items()}
    assert len(changed) == 4
    for name, text in changed.items():
        assert text.count("7.8.9") == 1, name
    for name in ("pyproject.toml", "__init__.py", "CITATION.cff"):
        assert bench.__version__ not in changed[name]
    headings = re.findall(r"^## (\S+)", changed["CHANGELOG.md"], flags=re.MULTILINE)
    assert headings[:2] == ["[Unreleased]", "[7.8.9]"]
    with pytest.raises(ValueError, match="no version"):
        bumped("next")


def test_pre_commit_has_the_ruff_of_the_constraints() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (ruff,) = settings["repos"]
    assert f"ruff=={ruff['rev'].removeprefix('v')}\n" in (ROOT / "constraints.txt").read_text()


def test_every_method_has_something_to_cite() -> None:
    page = (ROOT / "docs" / "cite.md").read_text("utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    keys = {key for row in rows for key in re.findall(r"`(\w+\d{4}\w+)`", row[1])}
    known = re.findall(r"^@\w+\{(\w+),", Path(ROOT / "docs" / "references.bib").read_text(), re.M)
    assert set(METHODS) <= named
    assert keys == set(known)
    assert len(known) == len(set(known))
