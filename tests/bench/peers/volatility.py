"""Quantiles of GARCH(1,1) at given origins of series of logarithms; reads and writes JSON.

As the guide of `arch` has it: per cents, a constant mean, errors of the normal or of Student's t, fitted to all events
up to an origin (an expanding window), anew every `refit` origins and filtered in between. One step ahead quantiles are
the distribution's, further ahead those of 1,000 simulated paths. `bound` is what nobody can use: the best of these and
of GJR-GARCH, with either distribution and Hansen's skewed t, fitted to the whole series, one step ahead.
"""

import json
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
from arch import arch_model

DISTRIBUTIONS = {"GARCH": "normal", "GARCH, Student's t": "t"}
PATHS = 1000
PER_CENT = 100


def model(changes: np.ndarray, errors: str, asymmetric: int = 0) -> object:
    return arch_model(changes, mean="Constant", vol="GARCH", p=1, o=asymmetric, q=1, dist=errors, rescale=False)


def ahead(fitted: object, start: int, levels: list[float]) -> np.ndarray:
    """(changes from `start` on, levels) one step ahead, in per cent."""
    found = fitted.forecast(horizon=1, start=start, reindex=False)
    shape = fitted.params[len(fitted.params) - fitted.model.distribution.num_params :]
    quantiles = fitted.model.distribution.ppf(np.array(levels), shape.to_numpy())
    return found.mean.to_numpy() + np.sqrt(found.variance.to_numpy()) * quantiles


def refitted(values: np.ndarray, asked: dict, errors: str) -> tuple[np.ndarray, float]:
    """(origins, horizons, levels), and seconds of CPU per forecast."""
    changes, origins, levels = PER_CENT * np.diff(values), asked["origins"], asked["levels"]
    made, began = [], time.process_time()
    seed = np.random.RandomState(0)
    for first in range(0, len(origins), asked["refit"]):
        at = origins[first : first + asked["refit"]]
        whole = model(changes[: at[-1]], errors)  # the last change is that of an origin, at - 1
        fitted = whole.fit(disp="off", last_obs=at[0], show_warning=False)
        near = ahead(fitted, at[0] - 1, levels)
        walks = fitted.forecast(
            horizon=max(asked["horizons"]),
            start=at[0] - 1,
            reindex=False,
            method="simulation",
            simulations=PATHS,
            random_state=seed,
        ).simulations.values.cumsum(2)  # (origins, paths, horizon)
        far = np.quantile(walks, levels, axis=1).transpose(1, 2, 0)  # (origins, horizon, levels)
        far[:, 0] = near
        made.append(values[at][:, None, None] + far[:, np.array(asked["horizons"]) - 1] / PER_CENT)
    return np.concatenate(made), (time.process_time() - began) / len(origins)


def bound(values: np.ndarray, asked: dict) -> np.ndarray:
    """(origins, 1, levels) of the model that has the least pinball loss."""
    changes, origins, levels = PER_CENT * np.diff(values), np.array(asked["origins"]), np.array(asked["levels"])
    best, least = None, np.inf
    for errors in ("normal", "t", "skewt"):
        for asymmetric in (0, 1):
            fitted = model(changes, errors, asymmetric).fit(disp="off", show_warning=False)
            made = values[origins, None] + ahead(fitted, origins[0] - 1, levels)[origins - origins[0]] / PER_CENT
            miss = values[origins + 1, None] - made
            loss = np.maximum(levels * miss, (levels - 1) * miss).mean()
            if loss < least:
                best, least = made, loss
    return best[:, None]


def forecasts(asked: dict) -> Iterator[tuple[str, str, np.ndarray, float]]:
    """By method and series."""
    for name, given in asked["series"].items():
        values = np.array(given)
        for method, errors in DISTRIBUTIONS.items():
            yield method, name, *refitted(values, asked, errors)
        yield "bound", name, bound(values, asked), 0.0


def main() -> None:
    warnings.simplefilter("ignore")
    for method, series, made, cost in forecasts(json.load(sys.stdin)):
        print(json.dumps({"method": method, "series": series, "made": made.tolist(), "cpu_s": cost}), flush=True)


if __name__ == "__main__":
    main()
