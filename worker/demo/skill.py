"""Skill and coverage of published forecasts, from the records alone: each forecast beside its label."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import orjson

from pipeline.arrays import Floats
from pipeline.method import Method
from worker.broker.restore import TopicRecord


@dataclass(frozen=True)
class Scores:
    """Per horizon; skill is the mean over streams, so that no stream's units outweigh another's."""

    horizons: tuple[int, ...]
    levels: tuple[float, ...]
    skill: Floats  # (Z,) 1 - squared error / squared error of the last value
    coverage: Floats  # (Z, bands)


def score(outputs: Iterable[TopicRecord], method: Method) -> Scores:
    """Score forecast records that are in stream order. A label is the stream's value so many forecasts later."""
    values: dict[str, list[float]] = {}
    means: dict[str, list[list[float]]] = {}
    quantiles: dict[str, list[list[list[float]]]] = {}
    for record in outputs:
        forecast = orjson.loads(record.value or b"")
        name = forecast["stream"]
        values.setdefault(name, []).append(forecast["value"])
        means.setdefault(name, []).append(forecast["mean"])
        quantiles.setdefault(name, []).append(list(forecast["quantiles"].values()))
    z, bands = len(method.horizons), method.bands
    ratios, hits, labels = [], np.zeros((z, bands)), np.zeros(z)
    for name, column in values.items():
        came, mean = np.array(column), np.array(means[name])
        ratio = np.full(z, np.nan)
        for j, h in enumerate(method.horizons):
            if len(came) <= h:
                continue
            label, naive = came[h:], came[h:] - came[:-h]
            if np.any(naive):
                ratio[j] = ((label - mean[:-h, j]) ** 2).sum() / (naive**2).sum()
            band = np.array(quantiles[name])[:-h, :, j]  # (n, Q)
            for k in range(bands):
                hits[j, k] += ((band[:, k] <= label) & (label <= band[:, -1 - k])).sum()
            labels[j] += len(label)
        ratios.append(ratio)
    coverage = hits / np.maximum(labels, 1)[:, None]
    skill = 1 - np.nanmean(ratios, axis=0) if ratios else np.full(z, np.nan)
    return Scores(method.horizons, method.band_levels, skill, coverage)
