"""Networks that say something: a new one's head is zero, and forecasts no change."""

import torch

from pipeline.network.model import Network, Shape


def with_head(shape: Shape, seed: int, draws: int, bias: float = 0.0) -> Network:
    """One whose head is drawn by a generator of its own, weights up to 1 and biases up to `bias`."""
    network, generator = Network(shape, seed), torch.Generator().manual_seed(draws)
    head = {}
    for name, bound in (("head.weight", 1.0), ("head.bias", bias)):
        head[name] = torch.empty(network.weights[name].shape).uniform_(-bound, bound, generator=generator).numpy()
    network.take({**network.weights, **head})
    return network
