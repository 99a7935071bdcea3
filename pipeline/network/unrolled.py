"""A GRU's layer over a window of any length, and its gradient: back-propagation through time (Werbos 1990).

What torch's own layer computes, without what torch costs around it: ten times what there is to compute, for one step of
one row; more for the few windows of a small update, of which autograd makes ten nodes per timestep. With
a = W_ih x + b_ih and s = W_hh h + b_hh,

    r, z = sigmoid(a + s),  n = tanh(a + r s),  h' = (1 - z) n + z h

Shapes: T timesteps, B windows, F inputs, H hidden size; gates r, z, n of H each, in this order.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.arrays import Floats32
from pipeline.compiled import kernel


@kernel
def forth(
    x: Floats32,  # (T, B, F)
    w_ih: Floats32,  # (F, 3 H) transposed, like W_hh
    w_hh: Floats32,  # (H, 3 H)
    b_ih: Floats32,  # (3 H,)
    b_hh: Floats32,  # (3 H,)
    h: Floats32,  # (T + 1, B, H) in: the first; out: the others
    kept: Floats32,  # (T, B, 4, H) out: r, z, n, and n's s
) -> None:
    """The states after each timestep; a row's bits do not depend on the others."""
    size = h.shape[2]
    a = np.empty(len(b_ih), np.float32)
    s = np.empty(len(b_hh), np.float32)
    for t in range(len(x)):
        for b in range(x.shape[1]):
            before = h[t, b]
            after = h[t + 1, b]
            keep = kept[t, b]
            for i in range(len(a)):
                a[i] = b_ih[i]
                s[i] = b_hh[i]
            for k in range(x.shape[2]):
                for i in range(len(a)):
                    a[i] += x[t, b, k] * w_ih[k, i]
            for k in range(size):
                for i in range(len(s)):
                    s[i] += before[k] * w_hh[k, i]
            for j in range(size):
                r = 1.0 / (1.0 + np.exp(-(a[j] + s[j])))
                z = 1.0 / (1.0 + np.exp(-(a[size + j] + s[size + j])))
                n = np.tanh(a[2 * size + j] + r * s[2 * size + j])
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


def layer(x: Floats32, first: Floats32, weights: Sequence[Floats32]) -> tuple[Floats32, Floats32]:
    """x (T, B, F), first (B, H), weights as `forth` has them -> its h (T + 1, B, H) and kept (T, B, 4, H)."""
    steps, many, size = len(x), *first.shape
    h, kept = np.empty((steps + 1, many, size), np.float32), np.empty((steps, many, 4, size), np.float32)
    h[0] = first
    w_ih, w_hh, b_ih, b_hh = weights
    forth(x, w_ih, w_hh, b_ih, b_hh, h, kept)
    return h, kept


def gradient(
    x: Floats32, h: Floats32, kept: Floats32, d_out: Floats32, w_hh: Floats32
) -> tuple[Floats32, list[Floats32]]:
    """The loss by a (T B, 3 H) and by weights, from what `layer` took and gave, and the loss by its h' (T, B, H).

    W_hh as torch has it, (3 H, H); the loss by weights in torch's order, W_ih, W_hh, b_ih, b_hh.
    """
    d_a, d_s = np.empty((2, *d_out.shape[:2], len(w_hh)), np.float32)
    back(d_out, w_hh, h, kept, d_a, d_s)
    by_a, by_s, seen, before = (array.reshape(-1, array.shape[-1]) for array in (d_a, d_s, x, h[:-1]))
    return by_a, [by_a.T @ seen, by_s.T @ before, by_a.sum(0), by_s.sum(0)]
