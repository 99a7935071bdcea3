"""Published numbers have nine digits, however large or small they are."""

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.rounding import significant

finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=1000, deadline=None)
@given(finite)
@example(0.1 + 0.2)
@example(999_999_999.5)
@example(999_999_999.9)
@example(1000.0)
@example(1e22)
@example(1e23)
@example(1.5e-300)
@example(5e-324)
@example(1.7976931348623157e308)
def test_numbers_have_nine_significant_digits(x: float) -> None:
    [got], wanted = significant(np.array([x])).tolist(), float(f"{x:.9g}")
    assert float(f"{got:.9g}") == got, "no tenth digit"
    if got != wanted:  # halfway, as near as float64 can tell: either neighbour is right
        halfway = abs(abs(x - got) - abs(x - wanted))
        assert halfway <= 4 * math.ulp(x), f"{x!r} became {got!r}, not {wanted!r}"


@given(st.integers(-(10**9) + 1, 10**9 - 1), st.integers(-30, 30))
def test_a_number_of_up_to_nine_digits_stays_as_it_is(digits: int, power: int) -> None:
    x = float(f"{digits}e{power}")
    assert significant(np.array([x])).tolist() == [x]


def test_shapes_are_kept_and_what_is_no_number_passes() -> None:
    array = np.array([[1 / 3, np.nan], [np.inf, -np.inf]])
    got = significant(array)
    assert got.shape == (2, 2)
    assert got[0, 0] == 0.333333333
    assert np.isnan(got[0, 1])
    assert got[1].tolist() == [np.inf, -np.inf]
