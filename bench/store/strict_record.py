"""What all records have in common: a strict schema, and texts that are cut. Torch-free."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

MAX_NAME, MAX_LINE, MAX_TEXT, MAX_LOG = 100, 200, 2_000, 100_000
"""Characters of what a method says in a record: names, first lines, messages and notes, logs."""


def cut(text: str, most: int) -> str:
    """Return `text`, or its head and its tail with how much is left out, at most so long."""
    if len(text) <= most:
        return text
    room = most - len(f"\n[... {len(text)} characters are left out ...]\n")
    head = room // 2
    left_out = len(text) - room
    return f"{text[:head]}\n[... {left_out} characters are left out ...]\n{text[head - room :]}"


Name = Annotated[str, AfterValidator(lambda text: text[:MAX_NAME])]
Text = Annotated[str, AfterValidator(lambda text: cut(text, MAX_TEXT))]
Log = Annotated[str, AfterValidator(lambda text: cut(text, MAX_LOG))]


class StrictRecord(BaseModel):
    """Frozen; a key that the schema does not know is an error. JSON as in `strict_json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")
