"""The linear expert's twin Ac, which sees the covariates too; the stacking weighs it against A.

    phi = [that of A, then clip(dcov / s_cov, 6), clip((cov - m2_cov) / s_cov, 20) / 3 of every covariate]

Only where there are covariates. How weights follow from it is regression.py.
"""

import numpy as np

from pipeline.arrays import Field, Floats32, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import linear, regression

NAME = "companion"
STEP = 6.0
LEVEL = 20.0


def width(method: Method) -> int:
    """Regressors: two more than A's for every covariate."""
    return linear.width(method) + 2 * len(method.covariates)


def fields(method: Method) -> list[Field]:
    """Those of its regression."""
    return regression.fields(method, NAME, width(method)) if method.has_companion else []


def initialise(method: Method, row: np.void) -> None:
    """Set what does not start at zero."""
    if method.has_companion:
        regression.initialise(row, NAME, width(method))


@kernel
def regressors(rows: Rows, index: Ints, phi: Floats32) -> None:
    """Fill the last columns of phi (B, F), two for every covariate."""
    for b in range(len(index)):
        row = rows[index[b]]
        last = row["covariate"]
        change = row["covariate_change"]
        mean = row["covariate_mean"]
        step2 = row["covariate_step2"]
        own = phi.shape[1] - 2 * len(last)
        for c in range(len(last)):
            phi[b, own + 2 * c] = 0.0
            phi[b, own + 2 * c + 1] = 0.0
            if step2[c] > 0.0:
                scale = np.sqrt(step2[c])
                phi[b, own + 2 * c] = min(max(change[c] / scale, -STEP), STEP)
                phi[b, own + 2 * c + 1] = min(max((last[c] - mean[c]) / scale, -LEVEL), LEVEL) / 3.0
