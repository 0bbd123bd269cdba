"""Facts against counterfacts: a prompt states a wrong fact and asks for the true one.

The form is that of the iPhone prompt of 'Activation Scaling for Steering and Interpreting Language
Models' (EMNLP Findings 2024), Fig. 8. The prefix `Fact:` keeps a subject from opening the prompt,
where it would be tokenised otherwise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from random import Random
from typing import ClassVar, Literal

from tasks.facts import facts
from tasks.task import PromptPair

Family = Literal["developed_by", "landmark", "language", "sport"]

TEMPLATES = {
    "developed_by": "Fact: {subject} was developed by {claim}. {subject} was developed by",
    "landmark": "Fact: {subject} is located in the city of {claim}. "
    "{subject} is located in the city of",
    "language": "Fact: The official language of {subject} is {claim}. "
    "The official language of {subject} is",
    "sport": "Fact: {subject} plays the sport of {claim}. {subject} plays the sport of",
}
SHIFTED = {
    "developed_by": "Fact: {claim} has also developed {subject}. {subject} was developed by",
    "landmark": "Fact: The city of {claim} is home to {subject}. "
    "{subject} is located in the city of",
    "language": "Fact: In {subject} the official language is {claim}. "
    "The official language of {subject} is",
    "sport": "Fact: The sport of {subject} is {claim}. {subject} plays the sport of",
}
"""The template of the shifted split: as many tokens, with the words at other positions."""

LEFT_OUT = {
    "Java": "Sun is the first word of Sun Microsystems, and Oracle owns it",
    "Mali": "dropped French as an official language",
    "Niger": "dropped French as an official language",
    "The Alamo": "San is the first word of San Antonio",
    "Unix": "Bell is the first word of Bell Labs",
}
"""Subjects not asked about, and why. Those that name their object come on top."""

TRUE_TOO = {
    "Israel": ("Arabic",),
    "Michael Jordan": ("baseball",),
    "Pakistan": ("English",),
    "Sudan": ("English",),
    "The Blue Mosque": ("Cairo",),
    "The Pantheon": ("Paris",),
}
"""Objects that are (or were) true of a subject as well: they are never its counterfact."""


@cache
def asked_facts(family: str) -> dict[str, str]:
    """Return subject to object of a family; neighbours in the order have different objects."""
    kept = {
        subject: wanted
        for subject, wanted in facts()[family].items()
        if subject not in LEFT_OUT and wanted not in subject
    }
    groups: dict[str, list[str]] = {}
    for subject, wanted in kept.items():
        groups.setdefault(wanted, []).append(subject)
    turns = zip_longest(*groups.values())
    return {subject: kept[subject] for turn in turns for subject in turn if subject}


@dataclass(frozen=True)
class FactConflict:
    """Which object follows: the true one (answer), or the one that the prompt states (foil)?

    Entities are the subjects. A counterfact is the object of another subject of the same split;
    objects have many subjects, so both halves may have some in common.
    """

    family: Family = "developed_by"
    """What the facts are about."""
    corruption: Literal["other_subject", "other_counterfact"] = "other_subject"
    """What the corrupted prompt has instead: another subject of equal length wherever it stands,
    with another object than answer and foil (localises recall), or another counterfact (localises
    copying)."""
    lengths: Literal["one", "several"] = "one"
    """Prompts of the most frequent length only, or of all lengths."""

    name: ClassVar[str] = "fact_conflict"

    def entities(self) -> Sequence[str]:
        """Return the subjects."""
        return tuple(asked_facts(self.family))

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair that states the true fact about `entity`."""
        wanted = asked_facts(self.family)[entity]
        return self._pair(split, entity, wanted, entity, wanted)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield every subject with each of its counterfacts, a round of subjects at a time."""
        known = asked_facts(self.family)
        draw = Random(f"fact_conflict/{seed}")
        order = draw.sample(list(entities), len(entities))
        objects = list(dict.fromkeys(known[entity] for entity in entities))
        claims = {
            subject: draw.sample(
                [o for o in objects if o != known[subject] and o not in TRUE_TOO.get(subject, ())],
                k=sum(o != known[subject] and o not in TRUE_TOO.get(subject, ()) for o in objects),
            )
            for subject in order
        }
        for turn in range(len(objects)):
            for subject in order:
                if turn >= len(claims[subject]):
                    continue
                claim = claims[subject][turn]
                apart = (known[subject], claim)
                others = [other for other in order if known[other] not in apart]
                if others:
                    other = draw.choice(others)
                    yield self._pair(split, subject, claim, other, known[other])

    def _pair(
        self, split: str, subject: str, claim: str, other: str, other_claim: str
    ) -> PromptPair:
        """State `claim` about `subject`; corrupt with another subject or its object."""
        template = (SHIFTED if split == "shifted" else TEMPLATES)[self.family]
        if self.corruption == "other_subject":
            corrupted = template.format(subject=other, claim=claim)
        else:
            corrupted = template.format(subject=subject, claim=other_claim)
        return PromptPair(
            clean=template.format(subject=subject, claim=claim),
            corrupted=corrupted,
            answer=f" {asked_facts(self.family)[subject]}",
            foil=f" {claim}",
            entity=subject,
        )
