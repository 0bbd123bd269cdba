"""The facts that tasks ask about, from the tables in `tasks/data`."""

import csv
import json
from pathlib import Path

_DATA = Path(__file__).parent / "data"


def capitals() -> dict[str, str]:
    """Return country to capital, as listed in `data/countries.tsv`."""
    with (_DATA / "countries.tsv").open(encoding="utf-8", newline="") as table:
        return {row["country"]: row["capital"] for row in csv.DictReader(table, delimiter="\t")}


def first_names() -> tuple[str, ...]:
    """Return the first names listed in `data/names.json`."""
    with (_DATA / "names.json").open(encoding="utf-8") as file:
        groups: dict[str, list[str]] = json.load(file)
    return tuple(name for group in groups.values() for name in group)
