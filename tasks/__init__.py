"""Tasks: what is asked. Strings, splits and token checks; no torch, no model."""

from tasks.registry import Entry

TASKS: dict[str, Entry] = {
    "ccc": Entry("tasks.ccc:CCC", "country-capital conflict: the true capital or a claimed one"),
    "ioi": Entry("tasks.ioi:IOI", "indirect object identification: who is given the book"),
}
"""Every task by name; a new one is one file and one line here."""
