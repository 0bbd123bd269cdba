"""Country-capital conflict: a prompt claims a wrong capital and asks for the true one.

The conflict between what a prompt claims and what a model recalls is that of Du et al., 'Context
versus Prior Knowledge in Language Models' (2024); the paper form is the task of 'Activation Scaling
for Steering and Interpreting Language Models' (EMNLP Findings 2024), Table 2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

from tasks.facts import capitals
from tasks.task import PromptPair, casts

TEMPLATES = {
    "paper": "The capital of {subject} is {claim}. Q: What is the capital of {subject}? A:",
    "paper_alt": "The capital city of {subject} is {claim}. Q: Name the capital of {subject}. A:",
    "stem": "The capital of {subject} is {claim}. Q: What is the capital of {subject}? A: "
    "The capital of {subject} is",
    "stem_alt": "The capital city of {subject} is {claim}. Q: Name the capital of {subject}. A: "
    "The capital of {subject} is",
    "inline": "The capital of {subject} is {claim}. The capital of {subject} is",
    "inline_alt": "In {subject} the capital is {claim}. The capital of {subject} is",
    "reverse": "The city of {subject} is in {claim}. The city of {subject} is in the country of",
    "reverse_alt": "We know that {subject} is in {claim}. "
    "The city of {subject} is in the country of",
}
"""In `reverse` the capital stands for its country, and a wrong country is claimed."""

SHIFTED = {
    "paper": "paper_alt",
    "paper_alt": "paper",
    "stem": "stem_alt",
    "stem_alt": "stem",
    "inline": "inline_alt",
    "inline_alt": "inline",
    "reverse": "reverse_alt",
    "reverse_alt": "reverse",
}
"""The template of the shifted split: as many tokens, in other words or with them elsewhere."""

LEFT_OUT = {
    "Bolivia": "Sucre and La Paz",
    "Congo": "two states have that name",
    "Israel": "disputed",
    "Kosovo": "disputed",
    "Nauru": "has no official capital",
    "Palestine": "disputed",
    "South Africa": "has three capitals",
    "Sri Lanka": "Colombo and Sri Jayawardenepura Kotte",
    "Taiwan": "disputed",
    "Tibet": "disputed",
    "Yemen": "Sanaa and Aden",
    "the United Kingdom": "shares its capital with England",
}
"""Countries not asked about, and why. Those that give their capital away come on top (`_tells`)."""


@cache
def asked_capitals() -> dict[str, str]:
    """Return country to capital for the countries that are asked about; no capital comes twice."""
    return {
        country: capital
        for country, capital in capitals().items()
        if country not in LEFT_OUT and not _tells(country, capital)
    }


def _tells(country: str, capital: str) -> bool:
    """Whether the country's name gives the capital away: Tunisia (Tunis), El Salvador, Kuwait."""
    return capital in country or country in capital or bool(_words(country) & _words(capital))


def _words(name: str) -> set[str]:
    return set(name.replace("-", " ").split())


@dataclass(frozen=True)
class CCC:
    """Which capital follows: that of the country (answer), or the one the prompt claims (foil)?

    Entities are countries, each with its capital: a wrong capital in a prompt is that of another
    country of the same split.
    """

    template: Literal[
        "paper", "paper_alt", "stem", "stem_alt", "inline", "inline_alt", "reverse", "reverse_alt"
    ] = "stem"
    """Wording of the train and test prompts; the shifted split has its counterpart in `SHIFTED`.
    `reverse` and `reverse_alt` ask the other way round: in which country is this capital?"""
    corruption: Literal["other_country", "other_capital"] = "other_country"
    """What the corrupted prompt has instead: another country wherever the country is named
    (localises recall), or another wrong capital in the claim (localises copying). Where the
    template asks the other way round, another capital is asked about, or another wrong country
    claimed."""

    name: ClassVar[str] = "ccc"

    def entities(self) -> Sequence[str]:
        """Return the countries."""
        return tuple(asked_capitals())

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair that claims the true capital of `entity`."""
        return self._pair(split, entity, entity, entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every country and wrong capital, balanced over both."""
        for country, claimed, other in casts(entities, 3, seed):
            yield self._pair(split, country, claimed, other)

    def _pair(self, split: str, country: str, claimed: str, other: str) -> PromptPair:
        """Ask for the capital of `country`, claim that of `claimed`, corrupt with `other`."""
        template = TEMPLATES[SHIFTED[self.template] if split == "shifted" else self.template]
        capital = asked_capitals()
        subject, wanted = {name: name for name in capital}, capital
        if self.template.startswith("reverse"):
            subject, wanted = wanted, subject
        if self.corruption == "other_country":
            corrupted = template.format(subject=subject[other], claim=wanted[claimed])
        else:
            corrupted = template.format(subject=subject[country], claim=wanted[other])
        return PromptPair(
            clean=template.format(subject=subject[country], claim=wanted[claimed]),
            corrupted=corrupted,
            answer=f" {wanted[country]}",
            foil=f" {wanted[claimed]}",
            entity=country,
        )
