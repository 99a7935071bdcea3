"""Numbers as they are published: nine significant digits, so that they print short."""

import numpy as np

from pipeline.arrays import Bools, Floats
from pipeline.compiled import kernel

DIGITS = 9  # significant, whatever the size of the number
EXACT_POWER = 22  # powers of ten up to here are exact in float64
TENS = np.array([float(f"1e{power}") for power in range(EXACT_POWER + 1)])


def significant(array: Floats) -> Floats:
    """Round to `DIGITS` significant digits.

    >>> significant(np.array([0.1 + 0.2, 123456789012.0, 0.0, -1 / 3])).tolist()
    [0.3, 123456789000.0, 0.0, -0.333333333]
    """
    numbers = np.ascontiguousarray(array, np.float64).reshape(-1)  # one type for the kernel
    rounded, far = np.empty(len(numbers)), np.zeros(len(numbers), bool)
    round_near(numbers, TENS, rounded, far)
    for i in np.flatnonzero(far):
        rounded[i] = float(f"{numbers[i]:.{DIGITS}g}")
    return rounded.reshape(array.shape)


@kernel
def round_near(numbers: Floats, tens: Floats, rounded: Floats, far: Bools) -> None:
    """Round numbers (n,), but for those that are `far` from 1: their power of ten is not exact."""
    for i in range(len(numbers)):
        number = numbers[i]
        rounded[i] = number
        if number == 0.0 or not np.isfinite(number):
            continue
        places = DIGITS - 1 - int(np.floor(np.log10(abs(number))))  # behind the point
        if abs(places) >= len(tens):
            far[i] = True
        elif places >= 0:
            rounded[i] = np.rint(number * tens[places]) / tens[places]
        else:
            rounded[i] = np.rint(number / tens[-places]) * tens[-places]
