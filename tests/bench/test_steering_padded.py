"""Padded prompts under an intervention: a row of a batch is steered as it is steered alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.models.tiny import tiny_model
from bench.steering import steered
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.points import make_grid
from tasks.errors import UserInputError
from tests.bench.test_steering import LENGTH, TOKENS, made, subject_of

PADDING = 9
LEFT, RIGHT = "left", "right"
KINDS = ["static", "vectors", "dynamic"]
Batch = tuple[Tensor, Tensor]


def padded(rows: list[Tensor], width: int, side: str) -> Batch:
    """Token ids and mask; the padding is an id that prompts have too."""
    tokens = torch.full((len(rows), width), PADDING)
    mask = torch.zeros_like(tokens)
    for at, row in enumerate(rows):
        where = slice(width - len(row), width) if side == LEFT else slice(len(row))
        tokens[at, where], mask[at, where] = row, 1
    return tokens, mask


def positions_of(mask: Tensor) -> Tensor:
    return (mask.cumsum(dim=1) - 1).clamp_min(0)


def rows_of(kind: str) -> list[Tensor]:
    """Prompts of one length, and for gates of two."""
    return [TOKENS[0], TOKENS[1, : LENGTH - 2] if kind == "dynamic" else TOKENS[1]]


def logits_of(model: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """At every token, as a Hugging Face model and as a bridge give them."""
    if not hasattr(model, "original_model"):
        return model(tokens, attention_mask=mask, position_ids=positions_of(mask)).logits
    return model(tokens, attention_mask=mask)


@pytest.mark.parametrize(
    ("architecture", "on", "kind", "side"),
    [
        ("gpt2", "bridge", "static", LEFT),
        ("gemma2", "plain", "static", RIGHT),
        ("gemma2", "plain", "vectors", LEFT),
        ("gpt2", "bridge", "vectors", RIGHT),
        ("gpt2", "plain", "dynamic", LEFT),
        ("gemma2", "bridge", "dynamic", RIGHT),
    ],
)  # every two choices meet
def test_a_padded_row_is_steered_as_it_is_alone(
    architecture: str, on: str, kind: str, side: str
) -> None:
    """At every token, with padding on one side of the batch's shorter and longer row alike."""
    subject = subject_of(tiny_model(architecture))
    model = subject.bridge if on == "bridge" else tiny_model(architecture)
    rows = rows_of(kind)
    tokens, mask = padded(rows, LENGTH + 3, side)
    with torch.no_grad():
        unsteered = logits_of(model, tokens, mask)
        with steered(model, made(kind, subject), 1.5):
            together = logits_of(model, tokens, mask)
            alone = [logits_of(model, row[None], torch.ones(1, len(row)).long()) for row in rows]
    for at, expected in enumerate(alone):
        own = mask[at].bool()
        assert torch.allclose(together[at, own], expected[0], atol=2e-4)
        assert not torch.allclose(together[at, own], unsteered[at, own], atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "cached"),
    [("static", True), ("vectors", False), ("dynamic", True)],
)
def test_generate_goes_on_from_padded_prompts_as_from_each_alone(kind: str, cached: bool) -> None:
    """`generate` gives the mask, which grows; its scores are the logits of every step."""
    model, intervention = tiny_model("llama"), made(kind, subject_of(tiny_model("llama")))
    settings: dict[str, Any] = {
        "max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": PADDING,
        "return_dict_in_generate": True, "output_logits": True, "use_cache": cached,
    }  # fmt: skip

    def generated(rows: list[Tensor], width: int) -> Batch:
        tokens, mask = padded(rows, width, LEFT)
        found = model.generate(tokens, attention_mask=mask, **settings)
        return found.sequences[:, width:], torch.stack(found.logits, dim=1)

    rows = rows_of(kind)
    unsteered = generated(rows, LENGTH + 2)[1]
    with steered(model, intervention, 1.5):
        texts, logits = generated(rows, LENGTH + 2)
        alone = [generated([row], len(row)) for row in rows]
    for at, (text, expected) in enumerate(alone):
        assert torch.equal(texts[at], text[0])
        assert torch.allclose(logits[at], expected[0], atol=2e-4)
    assert not torch.allclose(logits, unsteered, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bridge_generates_from_padded_prompts(kind: str) -> None:
    bridge = (subject := subject_of(tiny_model("llama"))).bridge
    rows = rows_of(kind)
    settings: dict[str, Any] = {
        "max_new_tokens": 3, "do_sample": False, "stop_at_eos": False, "verbose": False,
    }  # fmt: skip
    tokens, mask = padded(rows, LENGTH + 2, LEFT)
    with steered(bridge, made(kind, subject), 1.5):
        together = bridge.generate(tokens, attention_mask=mask, **settings)
        alone = [bridge.generate(row[None], **settings) for row in rows]
    for at, text in enumerate(alone):
        assert torch.equal(together[at, LENGTH + 2 :], text[0, len(rows[at]) :])


@pytest.mark.parametrize("cached", [True, False])
def test_the_last_layer_is_left_alone_at_the_answer_position(cached: bool) -> None:
    """Whichever column that is: it is no location (see `FINAL_RESIDUAL_NOTE`), also behind a cache.

    Gates at the last layer's resid_post turn it round at every other token.
    """
    subject = subject_of(tiny_model("llama"))
    grid = make_grid(["resid_post"], "all", n_layers=3, n_positions=LENGTH, has_bos=True)
    gates = torch.zeros(1, 3, 32)
    gates[:, -1] = 100 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for side in (LEFT, RIGHT):
            tokens, mask = padded(rows_of("dynamic"), LENGTH + 2, side)
            arguments = {
                "attention_mask": mask,
                "use_cache": True,
                "return_type": "logits_and_cache",
            }
            plain, cache = subject.bridge(tokens, **arguments)
            with steered(subject.bridge, DynamicScaling(grid, gates), 1.5):
                found, steered_cache = subject.bridge(tokens, **arguments)
                same = (plain == found).all(dim=-1)
                assert same[mask == 0].all()
                last = torch.zeros_like(mask, dtype=torch.bool)
                last[range(2), (mask * torch.arange(mask.shape[1])).argmax(dim=1)] = True
                bos = (mask.cumsum(dim=1) == 1) & (mask == 1)
                assert torch.equal(same & (mask == 1), last | bos)
                if not cached:
                    continue
                mask = torch.cat([mask, torch.ones(2, 1).long()], dim=1)
                more = {"attention_mask": mask, "position_ids": positions_of(mask)[:, -1:]}
                follows = torch.tensor([[3], [4]])
                after = subject.bridge(follows, past_key_values=steered_cache, **more)
            before = subject.bridge(follows, past_key_values=cache, **more)
            assert torch.equal(after, before)


def test_a_prompt_of_another_length_stays_one_when_it_is_padded() -> None:
    """Padding is no part of a prompt, wherever it stands."""
    subject = subject_of(tiny_model("llama"))
    words = r"prompts of 7 tokens.* has 5, 7 \(BOS included, padding not"
    for kind, side in (("static", LEFT), ("vectors", RIGHT)):
        tokens, mask = padded([TOKENS[0], TOKENS[1, :5]], LENGTH, side)
        with (
            steered(subject.bridge, made(kind, subject), 1.0),
            pytest.raises(UserInputError, match=words),
        ):
            subject.bridge(tokens, attention_mask=mask)


def test_a_mask_that_does_not_say_what_is_padding_is_refused() -> None:
    plain, subject = tiny_model("llama"), subject_of(tiny_model("llama"))
    of_pairs = torch.zeros(2, 1, LENGTH, LENGTH)
    for kind in KINDS:
        with steered(plain, made(kind, subject), 1.0):
            for mask in (of_pairs, torch.ones(2, LENGTH + 1), {"full_attention": of_pairs}):
                with pytest.raises(UserInputError, match=r"attention_mask: .*shape \(2, 7\)"):
                    plain(TOKENS, attention_mask=mask)


def test_a_prompt_is_run_whole_under_the_intervention() -> None:
    """Not in parts, not before the block, and no block of the model by itself."""
    subject = subject_of(tiny_model("llama"))
    plain, intervention = tiny_model("llama"), made("static", subject)
    with torch.no_grad():
        begun = plain(TOKENS[:, :4], use_cache=True).past_key_values
        with steered(plain, intervention, 1.0):
            with pytest.raises(UserInputError, match="4 positions are in the cache"):
                plain(TOKENS[:, 4:], past_key_values=begun)
            cache = plain(TOKENS, use_cache=True).past_key_values
            plain(TOKENS[:, :1], None, None, cache)  # given by place
            mask = torch.ones(2, LENGTH + 2)
            mask[:, 0] = 0  # not the prompt that was steered
            with pytest.raises(UserInputError, match="8 positions are in the cache"):
                plain(TOKENS[:, :1], attention_mask=mask, past_key_values=cache)
        with (
            steered(subject.bridge, intervention, 1.0),
            pytest.raises(UserInputError, match="run the whole model"),
        ):
            subject.bridge.blocks[0](torch.zeros(1, LENGTH, 32))
