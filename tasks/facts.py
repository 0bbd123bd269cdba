"""The facts that tasks ask about, from the tables in `tasks/data`."""

import csv
import json
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data"


def capitals() -> dict[str, str]:
    """Return country to capital, as listed in `data/countries.tsv`."""
    with (_DATA / "countries.tsv").open(encoding="utf-8", newline="") as table:
        return {row["country"]: row["capital"] for row in csv.DictReader(table, delimiter="\t")}


def first_names() -> tuple[str, ...]:
    """Return the first names listed in `data/names.json`."""
    return tuple(name for group in names_by_gender().values() for name in group)


def names_by_gender() -> dict[str, list[str]]:
    """Return the first names of `data/names.json`, "male" and "female"."""
    names: dict[str, list[str]] = _read("names.json")
    return names


def facts() -> dict[str, dict[str, str]]:
    """Return family of facts to subject to object, as listed in `data/facts.json`."""
    families: dict[str, dict[str, str]] = _read("facts.json")
    return families


def _read(name: str) -> Any:
    with (_DATA / name).open(encoding="utf-8") as file:
        return json.load(file)
