"""Subject-verb agreement: the verb follows the number of its subject, not of the nearest noun.

The prompt follows Linzen, Dupoux and Goldberg, 'Assessing the Ability of LSTMs to Learn
Syntax-Sensitive Dependencies' (TACL 2016).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.task import PromptPair, casts

TEMPLATE = "I think that the {subject} {place} the {attractor}"
SHIFTED = "The very old {subject} {place} the big {attractor}"
PLACES = ("near", "behind", "beside", "above", "below")
NOUNS = (
    "key", "cabinet", "table", "chair", "lamp", "door", "window", "wall", "tree", "car", "house",
    "garden", "road", "bridge", "tower", "river", "book", "box", "clock", "picture", "mirror",
    "flag", "stone", "boat", "train", "shop", "school", "office", "farm", "hotel", "bank", "park",
    "camera", "computer", "desk", "bed", "wheel", "engine", "gate", "sign", "plant", "flower",
    "painting", "statue", "building", "room", "roof", "field", "mountain", "lake",
)  # fmt: skip


@dataclass(frozen=True)
class SubjectVerbAgreement:
    """Is or are: the form of the subject's number (answer), or the other one (foil)?

    Entities are nouns, each with its plural; the noun next to the verb is in either number. The
    corrupted prompt has the subject in the other number, which reverses the task.
    """

    name: ClassVar[str] = "subject_verb_agreement"

    def entities(self) -> Sequence[str]:
        """Return the nouns, in the singular."""
        return NOUNS

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair of two singulars and two plurals: they need as many tokens."""
        return self._pair(split, (entity, _plural(entity)), entity, PLACES[0], 0, _plural(entity))

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every subject and other noun, with the numbers in turn."""
        draw = Random(f"subject_verb_agreement/{seed}")
        for index, (subject, noun) in enumerate(casts(entities, 2, seed)):
            number = (index + index // len(entities)) % 2
            attractor = draw.choice((noun, _plural(noun)))
            forms = (subject, _plural(subject))
            yield self._pair(split, forms, attractor, draw.choice(PLACES), number, attractor)

    def _pair(
        self,
        split: str,
        forms: tuple[str, str],
        attractor: str,
        place: str,
        number: int,
        corrupted_attractor: str,
    ) -> PromptPair:
        template = SHIFTED if split == "shifted" else TEMPLATE
        verbs = (" is", " are")
        return PromptPair(
            clean=template.format(subject=forms[number], place=place, attractor=attractor),
            corrupted=template.format(
                subject=forms[1 - number], place=place, attractor=corrupted_attractor
            ),
            answer=verbs[number],
            foil=verbs[1 - number],
            entity=forms[0],
        )


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("x") else f"{noun}s"
