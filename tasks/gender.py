"""Gender of a first name: which pronoun the tag question of a sentence takes.

The prompt is that of Mathwin et al., 'Identifying a Preliminary Circuit for Predicting Gendered
Pronouns in GPT-2 Small' (2023).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from tasks.facts import names_by_gender
from tasks.task import PromptPair, opposed

TEMPLATE = "So {name} is a really {praise} {role}, isn't"
SHIFTED = "I think {name} is a {praise} {role}, isn't"
PRAISES = ("great", "good", "nice", "kind", "close", "dear", "fine", "true")
ROLES = ("friend", "person", "neighbor", "colleague", "student")
PRONOUNS = {"male": " he", "female": " she"}


@cache
def _gender() -> dict[str, str]:
    """Return first name to gender, the genders in turn as far as they go."""
    names = names_by_gender()
    ranked = [(rank, name, gender) for gender in names for rank, name in enumerate(names[gender])]
    return {name: gender for _, name, gender in sorted(ranked, key=lambda item: item[0])}


@dataclass(frozen=True)
class Gender:
    """He or she: the pronoun of the name's gender (answer), or the other one (foil)?

    Entities are first names. The corrupted prompt has a name of the other gender, which reverses
    the task.
    """

    name: ClassVar[str] = "gender"

    def entities(self) -> Sequence[str]:
        """Return the first names."""
        return tuple(_gender())

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair whose corrupted prompt has the same name."""
        return self._pair(split, entity, entity, PRAISES[0], ROLES[0])

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield every name in every wording, with the genders in turn."""
        groups = [[name for name in entities if _gender()[name] == kind] for kind in PRONOUNS]
        wordings = [(praise, role) for role in ROLES for praise in PRAISES]
        for turn, name, other in opposed(*groups, n_rounds=len(wordings), seed=seed):
            yield self._pair(split, name, other, *wordings[(turn + len(name)) % len(wordings)])

    def _pair(self, split: str, name: str, other: str, praise: str, role: str) -> PromptPair:
        template = SHIFTED if split == "shifted" else TEMPLATE
        right, wrong = PRONOUNS.values()
        if _gender()[name] == "female":
            right, wrong = wrong, right
        return PromptPair(
            clean=template.format(name=name, praise=praise, role=role),
            corrupted=template.format(name=other, praise=praise, role=role),
            answer=right,
            foil=wrong,
            entity=name,
        )
