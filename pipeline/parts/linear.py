"""The linear expert A: least squares of a stream's moves on its own last changes, level and season.

    phi = [1, clip(d_t, d_{t-1}, d_{t-2}; 6s)/s, clip(sn_1 - prev; 6s)/s, clip(prev_t - prev_{t-1}; 6s)/s,
           clip(z-m2, z-mS, z-prev; 20s)/s, clip(pf_k - z; 20s)/s for the fractions k of H, six of the time,
           clip(the step that the week's table has here; 20s)/s, where there is one]

How weights follow from it is regression.py.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import features, regression
from pipeline.parts.part import Part

NAME = "linear"
OWN = 9  # regressors before those of the fractions
STEP = 6.0  # bound of changes, in step scales
LEVEL = 20.0  # bound of distances


def width(method: Method) -> int:
    """F, how many regressors A has."""
    return OWN + len(method.fractions) + features.TIMES + method.has_week


def fields(method: Method) -> list[Field]:
    """Fields of the linear expert's regression."""
    return regression.fields(method, NAME, width(method))


def initialise(method: Method, row: np.void) -> None:
    """Set where its regression starts."""
    regression.initialise(row, NAME, width(method))


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """The regression's units, and the regressor that is of the week, -1 if none is."""
    return {**regression.fixed(method), "week_regressor": width(method) - 1 if method.has_week else -1}


@kernel
def regressors(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Fill the first columns of phi; a step scale of zero leaves all but the constant and the time at zero."""
    fractions = fixed[0]["fractions"]
    weekly = fixed[0]["week_regressor"]
    times = len(fractions) + OWN
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        z = event["z"]
        naive = event["seasonal_ahead"]
        profile = event["profile_ahead"]
        x = event["x"]
        phi = event["phi"]
        changes = row["changes"]
        prev = row["slot_before"][0]
        s = row["step_scale"]
        for f in range(times):
            phi[f] = 0.0
        phi[0] = 1.0
        for f in range(features.TIMES):
            phi[times + f] = x[features.WIDTH + f]
        if weekly >= 0:
            phi[weekly] = min(max(event["week_step"] / s, -LEVEL), LEVEL) if s > 0.0 else 0.0
        if s > 0.0:
            for f in range(3):
                phi[1 + f] = min(max(changes[f] / s, -STEP), STEP)
            phi[4] = min(max((naive[fractions[0]] - prev) / s, -STEP), STEP)
            if event["fine"]:
                prev = row["slot_before"][1]
                phi[4] = min(max((profile[fractions[0]] - prev) / s, -STEP), STEP)
            phi[5] = min(max(row["slot_shift"] / s, -STEP), STEP)
            phi[6] = min(max((z - row["recent_mean"]) / s, -LEVEL), LEVEL)
            phi[7] = min(max((z - row["season_mean"]) / s, -LEVEL), LEVEL)
            phi[8] = min(max((z - prev) / s, -LEVEL), LEVEL)
            for f in range(len(fractions)):
                phi[OWN + f] = min(max((profile[fractions[f]] - z) / s, -LEVEL), LEVEL)


PART = Part(
    fields,
    initialise,
    fixed,
    takes_part=lambda method: method.full,
    learn=(regression.learn_of(NAME),),
    forecast=(regressors, regression.take_in_of(NAME), regression.forecast_of(NAME)),
)
