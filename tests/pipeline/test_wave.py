"""The order that is law, and what holds for every part of the method."""

import inspect

import numpy as np
import pytest

from pipeline import records, wave
from pipeline.compiled import KERNELS
from pipeline.method import Method
from pipeline.parts import experts, mixture
from pipeline.parts.part import Part
from pipeline.records import PARTS, event, fixed, layout, published
from pipeline.shard import Shard
from tests.rigs.shard_rigs import SETTINGS, restless

METHODS = (Method(), Method(profile="lite"), Method(covariates=("wind",), horizons=(1,)), Method(weekly="off"))


def test_every_verb_of_every_part_takes_rows_events_and_what_is_fixed() -> None:
    taken = [verb for part in PARTS for name in wave.VERBS for verb in getattr(part, name)]
    assert len(taken) == len(set(taken)) > 20, "no kernel works twice on an event"
    for verb in taken:
        assert verb in KERNELS
        names = [name.lstrip("_") for name in inspect.signature(verb.py_func).parameters]  # type: ignore[attr-defined]
        assert names == ["rows", "events", "fixed"]


def test_the_law_has_every_verb_of_a_part_and_no_other() -> None:
    verbs = [name for name, kind in Part.__annotations__.items() if str(kind).startswith("tuple")]
    assert tuple(verbs) == wave.VERBS


def test_an_event_is_scored_learnt_from_measured_stepped_and_forecast_in_this_order() -> None:
    shard = Shard(Method(covariates=("wind",)), restless(Method(covariates=("wind",))), 0, SETTINGS)
    law = [getattr(do, "py_func", do) for do in shard.wave._law]
    order = [f"{do.__module__.rpartition('.')[2]}.{do.__name__}" for do in law]
    assert len(order) == len(set(order)) + 3, "the two linear experts share three kernels' names"
    for earlier, later in (
        ("wave._begin_anew", "admission.pace"),
        ("admission.pace", "spikes.hold"),
        ("spikes.hold", "weekly.foresee"),
        ("fine.stay", "breaks.follow"),
        ("weekly.foresee", "breaks.follow"),
        ("breaks.follow", "scales.move_level"),
        ("scales.move_level", "pending.score"),
        ("pending.score", "windows.label"),
        ("pending.score", "stack.learn"),
        ("season.find_slot", "intervals.learn"),
        ("season.learn", "scales.learn"),
        ("intervals.learn", "scales.learn"),
        ("scales.learn", "features.build"),
        ("features.build", "windows.keep"),
        ("windows.keep", "wave._step"),
        ("wave._step", "windows.heal"),
        ("windows.heal", "stack.forecast"),
        ("stack.forecast", "mixture.forecast"),
        ("intervals.forecast", "pending.keep"),
    ):
        assert order.index(earlier) < order.index(later), (earlier, later)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_records_are_one_object_per_method_and_published_fields_are_an_events_first(method: Method) -> None:
    again = Method(**{name: getattr(method, name) for name in method.__dataclass_fields__})
    for of in (layout, event, published, fixed):
        assert of(again) is of(method)
    first, whole = published(method).fields or {}, event(method).fields or {}
    assert {name: whole[name] for name in first} == dict(first)
    assert event(method).itemsize % 8 == 0


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_an_experts_own_field_is_its_row_of_all_moves(method: Method) -> None:
    events = np.zeros(2, event(method))
    names = experts.moves(method)
    for i, name in enumerate(names):
        events[f"{name}_move"] = i + 1
    assert events["moves"][1, :, -1].tolist() == list(range(1, len(names) + 1))
    assert {*mixture.names(method)[1:]} | set(experts.stacked(method)) <= set(names)
    assert records.parts_of(method)[0] is PARTS[0]
