"""Every causal architecture, compared with plain hooks.

python -m tests.architectures [NAME ...]   # prints what is found; docs/models.md has the names
python -m tests.architectures              # of all, and compares it with docs/models.md
python -m tests.architectures --write      # writes that page
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.architectures.page import PAGE, notes_of, page, row
from tests.architectures.survey import of_all
from tests.architectures.tiny import every_variety


def main(arguments: list[str]) -> int:
    """Prints what was found; 1 where something is wrong, or the page says something else."""
    chosen = [one for one in arguments if not one.startswith("-")]
    found = {}
    for name, one in of_all(chosen or list(every_variety())):
        found[name] = one
        print(row(name, one), flush=True)
        for note in notes_of(one):
            print(f"    {note}", flush=True)
    print(dict(Counter(one.verdict for one in found.values())))
    if "--write" in arguments:
        PAGE.write_text(page(found), "utf-8")
    elif not chosen and PAGE.read_text("utf-8") != page(found):
        print(f"{PAGE} says something else: write it again with --write")
        return 1
    return int(any(one.wrong for one in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
