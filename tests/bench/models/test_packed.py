"""Packed linear layers against those of PyTorch; freed memory, counted in the system's pages."""

from pathlib import Path

import pytest
import torch
from torch import nn

from bench.models.load import LoadedModel, load_model
from bench.models.packed import LARGEST_OUTPUT, pack_linear_layers


def layers(bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    """One layer twice, frozen: as it is, and packed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain, packed = nn.Linear(48, 40, bias=bias), nn.Linear(48, 40, bias=bias)
    packed.load_state_dict(plain.state_dict())
    for layer in (plain, packed):
        layer.requires_grad_(False)
    assert pack_linear_layers(nn.Sequential(packed)) == 1
    return plain, packed


def some(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(48,), (1, 48), (700, 48), (3, 5, 48)])
def test_forward_and_gradient_are_those_of_the_layer(shape: tuple[int, ...], bias: bool) -> None:
    plain, packed = layers(bias)
    x, y = some(*shape).requires_grad_(), some(*shape).requires_grad_()
    expected, found = plain(x), packed(y)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = some(*expected.shape)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    torch.testing.assert_close(y.grad, x.grad, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(packed(y), expected, atol=1e-5, rtol=1e-5)


def test_a_weight_that_changed_or_trains_is_never_stale() -> None:
    plain, packed = layers()
    x = some(48, 4).t()  # not contiguous
    packed(x)
    for layer in (plain, packed):
        layer.weight.mul_(2)
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed.double()(x.double()), plain.double()(x.double()))

    _, trained = layers()
    trained.weight.requires_grad_(True)
    trained(x).sum().backward()
    assert trained.weight.grad is not None


def test_what_cannot_be_packed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Linear):
        pass

    others = nn.Sequential(
        nn.Linear(4, LARGEST_OUTPUT + 1), nn.Linear(4, 4).bfloat16(), Scaled(4, 4), nn.LayerNorm(4)
    )
    assert pack_linear_layers(others) == 0
    assert "forward" not in others[0].__dict__
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pack_linear_layers(nn.Sequential(nn.Linear(4, 4))) == 0


def test_a_loaded_model_is_packed_unless_told_otherwise(
    tiny: LoadedModel, tiny_folder: Path
) -> None:
    plain = load_model(str(tiny_folder), device="cpu", packed=False)
    assert tiny.packed_layers == 7 * tiny.bridge.cfg.n_layers + 1  # and a small unembedding
    assert plain.packed_layers == 0
    tokens = torch.tensor([[0, 5, 9, 3]])
    with torch.no_grad():
        logits = plain.bridge(tokens)
        torch.testing.assert_close(tiny.bridge(tokens), logits, atol=1e-5, rtol=1e-4)
