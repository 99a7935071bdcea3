"""A GRU's layer over a window is torch's own, forth and back."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.network.unrolled import gradient, layer

F, H = 5, 7


@pytest.mark.parametrize(("steps", "many"), [(1, 1), (24, 2), (9, 30)])
def test_a_layer_and_its_gradients_are_torchs_own(steps: int, many: int) -> None:
    """Weights large enough that gates are shut and open; any weighing of the outputs as the loss."""
    generator = torch.Generator().manual_seed(steps)
    torchs = nn.GRU(F, H)
    with torch.no_grad():
        for weight in torchs.parameters():
            weight.normal_(0, 1.5, generator=generator)
    x = torch.randn(steps, many, F, generator=generator, requires_grad=True)
    first = torch.randn(many, H, generator=generator)
    weighing = torch.randn(steps, many, H, generator=generator)
    asked = [x, *torchs.parameters()]
    out, _ = torchs(x, first[None])
    expected = torch.autograd.grad((out * weighing).sum(), asked)
    mine, by_a, by_weights = both(x, first, weighing, list(torchs.parameters()))
    torch.testing.assert_close(mine, out, rtol=1e-5, atol=1e-5)
    by_x = (by_a @ torchs.weight_ih_l0).view_as(x)
    for by, theirs in zip([by_x, *by_weights], expected, strict=True):
        torch.testing.assert_close(by, theirs, rtol=1e-4, atol=1e-4)
    assert min(theirs.abs().max() for theirs in expected) > 0.01


def test_a_gate_far_beyond_its_range_is_shut_and_nothing_overflows() -> None:
    x, first = torch.full((3, 1, F), 1e4), torch.full((1, H), 0.5)
    weights = [torch.full((3 * H, F), -1.0), torch.ones(3 * H, H), torch.zeros(3 * H), torch.zeros(3 * H)]
    out, by_a, by_weights = both(x, first, torch.ones(3, 1, H), weights)
    assert torch.equal(out, torch.full((3, 1, H), -1.0)), "z is shut, n is -1"
    assert all(torch.isfinite(by).all() for by in (by_a, *by_weights))


def both(x: Tensor, first: Tensor, d_out: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Forth and back: h' (T, B, H), and the loss by a and by the weights."""
    seen, *arrays = (np.ascontiguousarray(t.detach().numpy()) for t in (x, *weights))
    h, kept = layer(seen, first.numpy(), [np.ascontiguousarray(array.T) for array in arrays])
    by_a, by_weights = gradient(seen, h, kept, d_out.numpy(), arrays[1])
    return torch.from_numpy(h[1:]), torch.from_numpy(by_a), [torch.from_numpy(by) for by in by_weights]
