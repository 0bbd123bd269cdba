"""docs/models.md, made of what was found."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from pathlib import Path

from methods.core.points import HEAD_SITES, Site
from tests.architectures.survey import Found

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def page(found: dict[str, Found]) -> str:
    """`docs/models.md`."""
    counts = Counter(one.verdict for one in found.values())
    notes = (reasons(name, one) for name, one in sorted(found.items()) if notes_of(one))
    return TEXT.format(
        types=sum("[" not in name for name in found), others=sum("[" in name for name in found),
        transformers=version("transformers"), lens=version("transformer-lens"),
        right=counts["right"], part=counts["in part"], refused=counts["refused"],
        wrong=counts["WRONG"], rows="\n".join(row(*each) for each in sorted(found.items())),
        notes="\n".join(notes),
    )  # fmt: skip


def row(name: str, one: Found) -> str:
    """The line of an architecture in the table of that page."""
    wide, heads = (
        ", ".join(f"`{site}`" for site in sites if site.value in one.sites) or "-"
        for sites in (
            [site for site in Site if site not in HEAD_SITES],
            [site for site in Site if site in HEAD_SITES],
        )
    )
    way, dla = one.way.partition(" ")[0] or "-", "yes" if one.dla == "yes" else "no"
    return f"| `{name}` | {one.architecture} | {one.verdict} | {wide} | {heads} | {way} | {dla} |"


def reasons(name: str, one: Found) -> str:
    """Its line in the list below that table."""
    return f"- `{name}`: {'; '.join(notes_of(one))}"


def notes_of(one: Found) -> list[str]:
    """What is not there and why, and what is wrong, a line each; the class is in the table."""
    notes = [*one.wrong, one.refused.partition(". That is to be mended")[0], *one.missing.values()]
    notes += [one.way] if one.way.startswith("slow") else []
    notes += [one.dla] if one.dla != "yes" and one.dla not in one.way else []
    return [" ".join(note.replace(f" of {one.architecture}", "").split()) for note in notes if note]


TEXT = """# Models

Every causal architecture of text that transformers {transformers} and TransformerLens {lens} both
name ({types}), and {others} with other settings of published models, each as a tiny random model: 3
layers, width 32, fp32 on the CPU. Made by

    tox -e architectures

A model of the same architecture with other settings may differ; what does not hold is said when it
is loaded. *right*: `attn_out`, `mlp_out`, `resid_post` and DLA are there, and at every site that is
offered, heads included, patches and derivatives are those of hooks on the plain Hugging Face model,
β = 0 gives the same bits, and DLA is the plain model's derivative with the final norm's scale held.
*in part*: the same of what is offered, and something is not. *refused*: not loaded, or without any
site, for the reason below. *WRONG* are numbers that differ, or an error that was not foreseen.

{right} are right, {part} in part, {refused} refused, {wrong} wrong.

*patches*: `fast` ones resume at their layer and position, `slow` ones run through the whole model.

| model type | class | verdict | sites | heads | patches | DLA |
|---|---|---|---|---|---|---|
{rows}

What is not there, and why:

{notes}
"""
