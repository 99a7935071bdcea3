"""Numeric companions of a stream: last known value, level and step of each."""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part

MEMORY = 200.0  # events


def fields(method: Method) -> list[Field]:
    """Four numbers and a count per covariate."""
    c = len(method.covariates)
    return [
        ("covariate", "f8", (c,)),  # last known
        ("covariate_change", "f8", (c,)),  # by the present event
        ("covariate_mean", "f8", (c,)),
        ("covariate_step2", "f8", (c,)),  # mean squared change
        ("covariate_count", "i8", (c,)),  # values seen
    ]


@kernel
def learn(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Take in an event's covariates (C,); NaN is absent: the last known value stays."""
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        given = events[b]["covariates"]
        last = row["covariate"]
        change = row["covariate_change"]
        mean = row["covariate_mean"]
        step2 = row["covariate_step2"]
        count = row["covariate_count"]
        for c in range(len(given)):
            change[c] = 0.0
            value = given[c]
            if np.isnan(value):
                continue
            count[c] += 1
            rate = max(1.0 / MEMORY, 1.0 / count[c])
            if count[c] > 1:
                change[c] = value - last[c]
                step2[c] += rate * (change[c] * change[c] - step2[c])
            mean[c] += rate * (value - mean[c])
            last[c] = value


PART = Part(fields, takes_part=lambda method: method.has_companion, learn=(learn,))
