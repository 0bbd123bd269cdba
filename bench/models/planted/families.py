"""The circuits of planted models, a function a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from bench.models.planted.draft import Draft, add_decoys
from tasks.planted import POINTERS


def lookup(draft: Draft) -> None:
    """An MLP at the subject writes what is known of it; a head moves that to the answer."""
    mlp, mover = draft.layers(2)
    gain = draft.gain()
    draft.answers()
    draft.knows(mlp)
    head = draft.head(
        mover,
        [(draft.at("last"), draft.at("subject"), 2.0)],
        [(draft.block("fact"), gain * draft.block("answer"))],
    )
    draft.adds("mlp_out", mlp, "subject", 1)
    draft.adds("attn_out", mover, "last", 1, head=head)
    draft.carries("subject", -1, 2 * mlp + 1)
    draft.carries("subject", 2 * mlp + 1, 2 * mover)
    draft.carries("last", 2 * mover, draft.end)
    add_decoys(draft, draft.coded("token"))


def backup(draft: Draft) -> None:
    """Two heads move what is known; an MLP uses the second only where the first gave nothing."""
    mlp, *heads = draft.layers(3)
    first, second = draft.draw.sample(heads, 2)
    reader = draft.draw.randint(max(heads), draft.n_layers - 1)
    gain, share = draft.gain(), draft.draw.uniform(0.3, 0.7)
    feature = draft.wiring.feature
    draft.answers()
    draft.knows(mlp)
    attends = [(draft.at("last"), feature("known"), 2.0)]
    moves = [
        (draft.block("fact"), gain * draft.block("answer")),
        (feature("known"), feature("given")),
    ]
    one = draft.head(first, attends, moves)
    other = draft.head(second, attends, [(draft.block("fact"), draft.block("spare"))])
    draft.wiring.mlp(
        reader, draft.coded("spare") - 2 * feature("given"), share * gain * draft.coded("answer")
    )
    draft.adds("mlp_out", mlp, "subject", 1)
    draft.adds("attn_out", first, "last", 1, head=one)
    draft.adds("attn_out", second, "last", 1, head=other, kind="backup")
    draft.carries("subject", -1, 2 * mlp + 1)
    draft.carries("subject", 2 * mlp + 1, 2 * max(heads))
    draft.carries("last", 2 * first, draft.end)
    draft.carries("last", 2 * second, 2 * reader + 1)
    add_decoys(draft, draft.coded("token"))


def conflict(draft: Draft) -> None:
    """What is known of the subject (+) against what the prompt states of it (-).

    The statement is found as in induction: a head notes at the stated word what stands before it,
    another asks at the answer what the subject is, and a third copies what was stated of that.
    """
    asks, copies, moves = draft.draw.sample(range(draft.n_layers), 3)
    while asks > copies or copies == 0 or moves == 0:
        asks, copies, moves = draft.draw.sample(range(draft.n_layers), 3)
    notes, mlp = draft.draw.randrange(copies), draft.draw.randrange(moves)
    known, stated = draft.gain(), draft.gain()
    draft.answers()
    draft.knows(mlp)
    _state(draft)
    noted = draft.head(notes, [(*draft.before, 2.0)], [(draft.block("token"), draft.block("of"))])
    to_subject = [(draft.at("last"), draft.at("subject"), 2.0)]
    asked = draft.head(asks, to_subject, [(draft.block("token"), draft.block("asked"))])
    answer = draft.block("answer")
    copied = draft.head(
        copies,
        [
            (draft.block("asked"), draft.block("of"), 2.0),
            (draft.wiring.feature("any"), draft.wiring.feature("stated"), 2.0),
        ],
        [(draft.block("statement"), stated * answer)],
        sink=3.0,
    )
    moved = draft.head(moves, to_subject, [(draft.block("fact"), known * answer)])

    draft.adds("mlp_out", mlp, "subject", 1, of="memory")
    draft.adds("attn_out", moves, "last", 1, head=moved, of="memory")
    draft.adds("attn_out", asks, "last", -1, head=asked, of="memory")
    draft.adds("attn_out", notes, "value", -1, head=noted)
    draft.adds("attn_out", copies, "last", -1, head=copied, of="context")
    draft.carries("key", -1, 2 * notes)
    draft.carries("value", 2 * notes, 2 * copies)
    draft.carries("subject", -1, max(2 * mlp + 1, 2 * asks), of="memory")
    draft.carries("subject", 2 * mlp + 1, 2 * moves, of="memory")
    draft.carries("last", 2 * asks, 2 * copies, of="memory")
    draft.carries("last", 2 * moves, draft.end, of="memory")
    draft.carries("last", 2 * copies, draft.end, of="context")
    add_decoys(draft, draft.coded("token"))


def _state(draft: Draft) -> None:
    """Let words that can be stated have the code of what they are known of, and say so."""
    for row, answer in zip(draft.coded("statement"), draft.layout.answers, strict=True):
        rows = torch.cat([row[None], draft.wiring.feature("stated")])
        draft.wiring.embed(draft.tokens[f" {answer}"], rows)


def induction(draft: Draft) -> None:
    """A head notes what stands before a word; another finds the last word there and copies."""
    notes, copies = draft.layers(2)
    gain = draft.gain()
    draft.repeats()
    noted = draft.head(notes, [(*draft.before, 2.0)], [(draft.block("token"), draft.block("of"))])
    copied = draft.head(
        copies,
        [(draft.block("token"), draft.block("of"), 2.0)],
        [(draft.block("token"), gain * draft.block("answer"))],
    )
    for place in ("first", "second"):
        draft.adds("attn_out", notes, f"{place}_value", 1, head=noted)
        draft.carries(place, -1, 2 * notes)
        draft.carries(f"{place}_value", 2 * notes, 2 * copies)
    draft.adds("attn_out", copies, "last", 1, head=copied)
    draft.carries("last", 2 * copies, draft.end)
    add_decoys(draft, draft.coded("token"))


def ioi(draft: Draft) -> None:
    """A repeated name is found, inhibited at the answer, and the other one copied (+ and -)."""
    repeats, inhibits, *movers = draft.layers(4)
    moves, opposes = draft.draw.sample(movers, 2)
    gain = draft.gain()
    against = gain * draft.draw.uniform(0.2, 0.6)
    draft.repeats()
    position, _ = draft.same
    token, where = draft.block("token"), draft.wiring.feature("where", len(position))
    inhibited = draft.wiring.feature("inhibited", len(position))
    found = draft.head(repeats, [(token, token, 2.0), (*draft.same, -2.0)], [(position, where)])
    sent = draft.head(inhibits, [(draft.at("last"), draft.at("repeat"), 2.0)], [(where, inhibited)])
    attends = [
        (draft.at("last"), draft.at("first", "second"), 3.0),
        (inhibited, position, -2.0),
    ]
    heads = [
        draft.head(layer, attends, [(token, one * draft.block("answer"))], sink=2.0)
        for layer, one in ((moves, gain), (opposes, -against))
    ]
    draft.adds("attn_out", repeats, "repeat", 1, head=found)
    draft.adds("attn_out", inhibits, "last", 1, head=sent)
    draft.adds("attn_out", moves, "last", 1, head=heads[0])
    draft.adds("attn_out", opposes, "last", -1, head=heads[1])
    draft.carries("repeat", -1, 2 * repeats)
    draft.carries("repeat", 2 * repeats, 2 * inhibits)
    draft.carries("last", 2 * inhibits, 2 * max(movers))
    draft.carries("last", 2 * min(movers), draft.end)
    add_decoys(draft, draft.coded("token"))


def distractors(draft: Draft) -> None:
    """A word says which of two subjects is meant; a sharp head selects it.

    A sign that tells the two words apart is brought to the answer too. There an MLP has two units a
    subject, one for each sign, that write the same: the derivative of LD in the sign is large, and
    between the two prompts it changes nothing.
    """
    points, selects, moves, brings, signs, mlp = _layers_of_distractors(draft)
    reader = draft.draw.randint(max(moves, brings), draft.n_layers - 1)
    gain, second_gain = draft.gain(), draft.gain()
    feature, wiring = draft.wiring.feature, draft.wiring
    pointers = feature("pointer", 2)
    for row, word in zip(pointers, POINTERS, strict=True):
        wiring.embed(draft.tokens[f" {word}"], row[None])
    draft.answers()
    draft.knows(mlp)
    chosen, wanted, sign = feature("chosen", 2), feature("wanted", 2), feature("sign")
    wiring.mlp(points, pointers, chosen)
    wiring.mlp(signs, pointers, torch.cat([sign, -sign]))
    to_pointer = [(draft.at("last"), draft.at("pointer"), 2.0)]
    selected = draft.head(selects, to_pointer, [(chosen, wanted)])
    brought = draft.head(brings, to_pointer, [(sign, feature("sign here"))])
    places = torch.cat([draft.at("first"), draft.at("second")])
    fact, here = draft.block("fact"), feature("sign here")
    moved = draft.head(
        moves,
        [(wanted, places, 2.0)],
        [(fact, gain * draft.block("answer") + draft.block("fact here"))],
    )
    reads = torch.cat([draft.coded("fact here") + way * here for way in (1, -1)])
    wiring.mlp(reader, reads, second_gain * draft.coded("answer").repeat(2, 1), threshold=1.5)

    draft.adds("mlp_out", points, "pointer", 1)
    draft.adds("attn_out", selects, "last", 1, head=selected)
    draft.adds("attn_out", moves, "last", 1, head=moved)
    draft.adds("mlp_out", reader, "last", 1)
    draft.adds("mlp_out", signs, "pointer", kind="cancelling")
    draft.adds("attn_out", brings, "last", kind="cancelling", head=brought)
    draft.carries("pointer", -1, 2 * points + 1)
    draft.carries("pointer", 2 * points + 1, 2 * selects)
    draft.carries("last", 2 * selects, 2 * moves)
    draft.carries("last", 2 * moves, draft.end)
    add_decoys(draft, pointers)


def _layers_of_distractors(draft: Draft) -> tuple[int, ...]:
    """Draw the layers of a family: three heads at one position, two MLPs at another."""
    while True:
        selects, moves, brings = draft.draw.sample(range(1, draft.n_layers), 3)
        points, signs = draft.draw.randrange(selects), draft.draw.randrange(brings)
        if selects < moves and points != signs:
            return points, selects, moves, brings, signs, draft.draw.randrange(moves)


FAMILIES: Mapping[str, Callable[[Draft], None]] = {
    "lookup": lookup,
    "induction": induction,
    "conflict": conflict,
    "ioi": ioi,
    "backup": backup,
    "distractors": distractors,
}
