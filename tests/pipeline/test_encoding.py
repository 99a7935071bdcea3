"""Numbers as text are those that orjson writes of them once they are rounded."""

import numpy as np
import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.encoding import written
from worker.publish import significant


@settings(max_examples=500, deadline=None)
@given(st.lists(st.floats(-1e18, 1e18) | st.floats() | st.integers(-(10**9), 10**9).map(float), min_size=1, max_size=5))
@example([0.1 + 0.2, -0.0, 1000.0])
@example([1e-5, 9.9999999999e-6, 99.99999999999])
@example([1e15, 999_999_999_999_999.0, 1e9, 999_999_999.5])
@example([np.nan])
@example([1.0, np.inf])
@example([1.0, 1e-300])
def test_each_text_is_orjsons_of_the_rounded_number(numbers: list[float]) -> None:
    between = [b"<", *[b", "] * (len(numbers) - 1), b">"]
    row = np.array(numbers)
    nothing, found, one = written(np.array([np.full(len(numbers), np.nan), row, np.ones(len(numbers))]), between)
    assert nothing is None
    assert one == b"<" + b", ".join([b"1.0"] * len(numbers)) + b">", "what is not written leaves nothing behind"
    rounded = b"<" + b", ".join(map(orjson.dumps, significant(row).tolist())) + b">"
    near = np.all((row == 0) | ((abs(row) >= 1e-5) & (abs(row) < 1e15)))
    assert found == (rounded if near else None)


def test_of_no_rows_there_is_no_text() -> None:
    assert written(np.empty((0, 2)), [b"", b"", b""]) == []
