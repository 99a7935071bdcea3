"""A GRU's layer over a window, and its gradient: back-propagation through time (Werbos 1990).

What torch's own layer computes, as one node of autograd in place of some ten per timestep: for windows as small as an
update's those nodes cost five times what they compute. (Torch has such a node for an LSTM.) With a = W_ih x + b_ih and
s = W_hh h + b_hh,

    r, z = sigmoid(a + s),  n = tanh(a + r s),  h' = (1 - z) n + z h

Shapes: T timesteps, B windows, F inputs, H hidden size; gates r, z, n of H each, in this order.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.compiled import Floats32, kernel


@kernel
def forth(
    a: Floats32,  # (T, B, 3 H)
    weight: Floats32,  # (H, 3 H) W_hh, transposed
    bias: Floats32,  # (3 H,) b_hh
    h: Floats32,  # (T + 1, B, H) in: the first; out: the others
    kept: Floats32,  # (T, B, 4, H) out: r, z, n, and n's s
) -> None:
    """The states after each timestep."""
    size = h.shape[2]
    s = np.empty(len(bias), np.float32)
    for t in range(len(a)):
        for b in range(a.shape[1]):
            before = h[t, b]
            after = h[t + 1, b]
            keep = kept[t, b]
            seen = a[t, b]
            s[:] = bias
            for k in range(size):
                for i in range(len(s)):
                    s[i] += before[k] * weight[k, i]
            for j in range(size):
                r = 1.0 / (1.0 + np.exp(-(seen[j] + s[j])))
                z = 1.0 / (1.0 + np.exp(-(seen[size + j] + s[size + j])))
                n = np.tanh(seen[2 * size + j] + r * s[2 * size + j])
                after[j] = n + z * (before[j] - n)
                keep[0, j] = r
                keep[1, j] = z
                keep[2, j] = n
                keep[3, j] = s[2 * size + j]


@kernel
def back(
    d_out: Floats32,  # (T, B, H) of the loss by each h', but for its way through later ones
    weight: Floats32,  # (3 H, H) W_hh
    h: Floats32,  # (T + 1, B, H)
    kept: Floats32,  # (T, B, 4, H)
    d_a: Floats32,  # (T, B, 3 H) out
    d_s: Floats32,  # (T, B, 3 H) out
) -> None:
    """The loss by a and s."""
    size = h.shape[2]
    later = np.empty(size, np.float32)  # by h', through later ones
    for b in range(d_out.shape[1]):
        later[:] = 0.0
        for t in range(len(d_out) - 1, -1, -1):
            keep = kept[t, b]
            by_a = d_a[t, b]
            by_s = d_s[t, b]
            for j in range(size):
                r = keep[0, j]
                z = keep[1, j]
                n = keep[2, j]
                d = d_out[t, b, j] + later[j]
                by_n = d * (1.0 - z) * (1.0 - n * n)
                by_a[j] = by_n * keep[3, j] * r * (1.0 - r)
                by_a[size + j] = d * (h[t, b, j] - n) * z * (1.0 - z)
                by_a[2 * size + j] = by_n
                by_s[j] = by_a[j]
                by_s[size + j] = by_a[size + j]
                by_s[2 * size + j] = by_n * r
                later[j] = d * z
            for i in range(len(by_s)):
                for j in range(size):
                    later[j] += by_s[i] * weight[i, j]


class Layer(torch.autograd.Function):
    """`Layer.apply(x (T, B, F), first (B, H), W_ih, W_hh, b_ih, b_hh)` -> h' (T, B, H).

    `first` is the state at the window's start; it gets no gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, *weights: Tensor) -> Tensor:
        """The states after each timestep."""
        w_ih, w_hh, b_ih, b_hh = weights
        steps, many, size = len(x), x.shape[1], w_hh.shape[1]
        a = torch.addmm(b_ih, x.flatten(0, 1), w_ih.t()).view(steps, many, -1)
        h, kept = np.empty((steps + 1, many, size), np.float32), np.empty((steps, many, 4, size), np.float32)
        h[0] = first
        forth(a.numpy(), w_hh.t().contiguous().numpy(), b_hh.numpy(), h, kept)
        ctx.save_for_backward(x, w_ih, w_hh)
        ctx.kept = h, kept
        return torch.from_numpy(h)[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        """The loss by x, where that is asked for, and by the weights."""
        x, w_ih, w_hh = ctx.saved_tensors
        h, kept = ctx.kept
        d_a, d_s = np.empty((2, *d_out.shape[:2], len(w_hh)), np.float32)
        back(d_out.contiguous().numpy(), w_hh.numpy(), h, kept, d_a, d_s)
        by_a, by_s = (torch.from_numpy(d).flatten(0, 1) for d in (d_a, d_s))
        by_x = (by_a @ w_ih).view(x.shape) if ctx.needs_input_grad[0] else None
        before = torch.from_numpy(h[:-1]).flatten(0, 1)
        return by_x, None, by_a.t() @ x.flatten(0, 1), by_s.t() @ before, by_a.sum(0), by_s.sum(0)
