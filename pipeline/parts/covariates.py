"""Numeric companions of a stream: last known value, level and step of each."""

import numpy as np

from pipeline.arrays import Field, Floats, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method

MEMORY = 200.0  # events


def fields(method: Method) -> list[Field]:
    """Three numbers and a flag per covariate; none where nothing reads them."""
    c = len(method.covariates)
    if not method.has_companion:
        return []
    return [
        ("covariate", "f8", (c,)),  # last known
        ("covariate_change", "f8", (c,)),  # by the present event
        ("covariate_mean", "f8", (c,)),
        ("covariate_step2", "f8", (c,)),  # mean squared change
        ("covariate_count", "i8", (c,)),  # values seen
    ]


@kernel
def learn(rows: Rows, index: Ints, given: Floats) -> None:
    """Take in `given` (B, C); NaN is absent: the last known value stays."""
    for b in range(len(index)):
        row = rows[index[b]]
        last = row["covariate"]
        change = row["covariate_change"]
        mean = row["covariate_mean"]
        step2 = row["covariate_step2"]
        count = row["covariate_count"]
        for c in range(given.shape[1]):
            change[c] = 0.0
            value = given[b, c]
            if np.isnan(value):
                continue
            count[c] += 1
            rate = max(1.0 / MEMORY, 1.0 / count[c])
            if count[c] > 1:
                change[c] = value - last[c]
                step2[c] += rate * (change[c] * change[c] - step2[c])
            mean[c] += rate * (value - mean[c])
            last[c] = value
