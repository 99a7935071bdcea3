"""The linear expert's twin Ac, which sees the covariates too; the stacking weighs it against A.

    phi = [that of A, then clip(dcov / s_cov, 6), clip((cov - m2_cov) / s_cov, 20) / 3 of every covariate]

Only where there are covariates. How weights follow from it is regression.py.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import linear, regression
from pipeline.parts.part import Part

NAME = "companion"
STEP = 6.0
LEVEL = 20.0


def width(method: Method) -> int:
    """Regressors: two more than A's for every covariate."""
    return linear.width(method) + 2 * len(method.covariates)


def fields(method: Method) -> list[Field]:
    """Fields of the companion's regression."""
    return regression.fields(method, NAME, width(method))


def initialise(method: Method, row: np.void) -> None:
    """Set where its regression starts."""
    regression.initialise(row, NAME, width(method))


@kernel
def regressors(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Fill the last columns of phi, two for every covariate; A has filled the others."""
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        phi = events[b]["phi"]
        last = row["covariate"]
        change = row["covariate_change"]
        mean = row["covariate_mean"]
        step2 = row["covariate_step2"]
        own = len(phi) - 2 * len(last)
        for c in range(len(last)):
            phi[own + 2 * c] = 0.0
            phi[own + 2 * c + 1] = 0.0
            if step2[c] > 0.0:
                scale = np.sqrt(step2[c])
                phi[own + 2 * c] = min(max(change[c] / scale, -STEP), STEP)
                phi[own + 2 * c + 1] = min(max((last[c] - mean[c]) / scale, -LEVEL), LEVEL) / 3.0


PART = Part(
    fields,
    initialise,
    takes_part=lambda method: method.has_companion,
    learn=(regression.learn_of(NAME),),
    forecast=(regressors, regression.take_in_of(NAME), regression.forecast_of(NAME)),
)
