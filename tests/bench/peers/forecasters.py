"""Forecasts of statsforecast, mlforecast and river at given origins of a history; reads and writes JSON.

The statistical models are fitted anew at every origin, to the `window` events up to it. LightGBM is one model of all
series, on lags and differences as mlforecast's guide has them, fitted to all events up to an origin, anew every 10
origins; its intervals are conformal, of 5 windows. river's SNARIMAX learns every event in turn, with its own regressor;
it has no intervals, and diverged where it was given a day of lags and a moving average. All know the season (`seasons`,
in events).
"""

import json
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from lightgbm import LGBMRegressor
from mlforecast import MLForecast
from mlforecast.lag_transforms import ExpandingMean, RollingMean
from mlforecast.target_transforms import Differences
from mlforecast.utils import PredictionIntervals
from river.time_series import SNARIMAX
from statsforecast.models import MSTL, AutoETS, AutoTheta

LEVELS = [80, 95]
REFIT = 10
BANDS = ["lo-95", "lo-80", "hi-80", "hi-95"]
Forecast = tuple[np.ndarray, float]  # (origins, horizons, mean and bands or mean alone), seconds of CPU per forecast


def statistical(model: object, values: np.ndarray, origins: list[int], far: int, window: int) -> Forecast:
    made, began = [], time.process_time()
    for origin in origins:
        past = values[max(origin + 1 - window, 0) : origin + 1]
        found = model.forecast(y=past, h=far, level=LEVELS)
        made.append(np.column_stack([found[name] for name in ["mean", *BANDS]]))
    return np.array(made), (time.process_time() - began) / len(origins)


def online(model: object, values: np.ndarray, origins: list[int], far: int) -> Forecast:
    """A forecast costs what learning an event and forecasting once cost."""
    made, learning, forecasting = [], 0.0, 0.0
    for i, value in enumerate(values[: origins[-1] + 1]):
        began = time.process_time()
        model.learn_one(float(value))
        learned = time.process_time()
        learning += learned - began
        if i in origins:
            with np.errstate(all="ignore"):
                made.append(np.array(model.forecast(horizon=far))[:, None])
            forecasting += time.process_time() - learned
    return np.array(made), learning / (origins[-1] + 1) + forecasting / len(origins)


def lightgbm(series: dict[str, np.ndarray], origins: list[int], far: int, season: int) -> dict[str, Forecast]:
    long = pd.concat([pd.DataFrame({"unique_id": k, "ds": np.arange(len(v)), "y": v}) for k, v in series.items()])
    stride = origins[1] - origins[0]
    began = time.process_time()
    model = MLForecast(
        models={"mean": LGBMRegressor(random_state=0, verbosity=-1, n_jobs=1)},
        freq=1,
        lags=[1, 2, 3, season],
        lag_transforms={1: [ExpandingMean()], season: [RollingMean(2 * season)]},
        target_transforms=[Differences([season])],
    )
    found = model.cross_validation(
        long[long.ds <= origins[-1] + far],
        n_windows=len(origins),
        h=far,
        step_size=stride,
        refit=REFIT,
        level=LEVELS,
        prediction_intervals=PredictionIntervals(n_windows=min(5, origins[0] // 2 // far), h=far),
    )
    cost = (time.process_time() - began) / len(origins) / len(series)
    shape = len(origins), far, 1 + len(BANDS)
    columns = ["mean", *(f"mean-{band}" for band in BANDS)]
    ordered = found.sort_values(["unique_id", "cutoff", "ds"])
    return {k: (ordered[ordered.unique_id == k][columns].to_numpy().reshape(shape), cost) for k in series}


def forecasts(asked: dict) -> Iterator[tuple[str, str, Forecast]]:
    """By method and series."""
    series = {name: np.array(values) for name, values in asked["series"].items()}
    origins, far, seasons = asked["origins"], asked["far"], asked["seasons"]
    for name, values in series.items():
        models = {
            "AutoETS": AutoETS(season_length=seasons[0]),
            "AutoTheta": AutoTheta(season_length=seasons[0]),
            "MSTL": MSTL(season_length=seasons),
        }
        for method, model in models.items():
            model.forecast(y=values[: 3 * seasons[-1]], h=1)  # compiles what there is to compile
            yield method, name, statistical(model, values, origins, far, asked["window"])
        yield "river", name, online(SNARIMAX(p=3, d=0, q=0, m=seasons[0], sp=2), values, origins, far)
    for name, forecast in lightgbm(series, origins, far, seasons[0]).items():
        yield "LightGBM", name, forecast


def main() -> None:
    warnings.simplefilter("ignore")
    asked = json.load(sys.stdin)
    at = np.array(asked["horizons"]) - 1
    for method, name, (made, cost) in forecasts(asked):
        answer = {"method": method, "series": name, "made": made[:, at].tolist(), "cpu_s": cost}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
