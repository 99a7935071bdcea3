"""A GRU's layer over a window is torch's own, forth and back."""

import pytest
import torch
from torch import nn

from pipeline.unrolled import Layer

F, H = 5, 7


@pytest.mark.parametrize(("steps", "many"), [(1, 1), (24, 2), (9, 30)])
def test_a_layer_and_its_gradients_are_torchs_own(steps: int, many: int) -> None:
    """Weights large enough that gates are shut and open; any weighing of the outputs as the loss."""
    generator = torch.Generator().manual_seed(steps)
    layer = nn.GRU(F, H)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_(0, 1.5, generator=generator)
    x = torch.randn(steps, many, F, generator=generator, requires_grad=True)
    first = torch.randn(many, H, generator=generator)
    weighing = torch.randn(steps, many, H, generator=generator)
    asked = [x, *layer.parameters()]
    out, _ = layer(x, first[None])
    mine = Layer.apply(x, first, *layer.parameters())  # type: ignore[no-untyped-call]
    torch.testing.assert_close(mine, out, rtol=1e-5, atol=1e-5)
    expected = torch.autograd.grad((out * weighing).sum(), asked)
    for by, gradient in zip(torch.autograd.grad((mine * weighing).sum(), asked), expected, strict=True):
        torch.testing.assert_close(by, gradient, rtol=1e-4, atol=1e-4)
    assert min(gradient.abs().max() for gradient in expected) > 0.01


def test_a_gate_far_beyond_its_range_is_shut_and_nothing_overflows() -> None:
    x, first = torch.full((3, 1, F), 1e4), torch.full((1, H), 0.5)
    weights = [torch.full((3 * H, F), -1.0), torch.ones(3 * H, H), torch.zeros(3 * H), torch.zeros(3 * H)]
    for weight in weights:
        weight.requires_grad_()
    out = Layer.apply(x, first, *weights)  # type: ignore[no-untyped-call]
    out.sum().backward()
    assert torch.equal(out, torch.full((3, 1, H), -1.0)), "z is shut, n is -1"
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in weights)
