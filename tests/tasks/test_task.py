"""Casts are balanced: the order in which a task goes through its entities."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.task import casts

LETTERS = "abcdefghij"


@given(n_entities=st.integers(2, 10), n_parts=st.integers(2, 5), seed=st.integers())
def test_every_entity_plays_every_part_once_a_round(
    n_entities: int, n_parts: int, seed: int
) -> None:
    entities = LETTERS[:n_entities]
    drawn = list(casts(entities, n_parts, seed))
    if n_parts > n_entities:
        assert drawn == []
        return
    assert len(drawn) == n_entities * (n_entities - 1)
    assert len({cast[:2] for cast in drawn}) == len(drawn)
    assert all(len(set(cast)) == n_parts for cast in drawn)
    for start in range(0, len(drawn), n_entities):
        for part in zip(*drawn[start : start + n_entities], strict=True):
            assert sorted(part) == list(entities)


@given(seed=st.integers())
def test_the_first_two_parts_do_not_depend_on_how_many_there_are(seed: int) -> None:
    two, five = list(casts(LETTERS, 2, seed)), list(casts(LETTERS, 5, seed))
    assert two == [cast[:2] for cast in five]


def test_another_seed_gives_another_order() -> None:
    assert len({tuple(casts(LETTERS, 3, seed)) for seed in range(5)}) == 5
