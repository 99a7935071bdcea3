"""The three records that kernels work on: a row per stream, an event per place of a wave, and what is fixed.

Each is one dtype object per method: numba knows a dtype by identity, another that is equal costs 4 us per kernel and
call.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Field, Fixed, Rows
from pipeline.learning import watchdog, windows
from pipeline.method import Method
from pipeline.network import model
from pipeline.parts import (
    admission,
    breaks,
    companion,
    covariates,
    drift,
    experts,
    features,
    fine,
    intervals,
    linear,
    mixture,
    pending,
    scales,
    season,
    spikes,
    stack,
    unrest,
    weekly,
)
from pipeline.parts.part import Part

# In the order in which they do what each verb asks of them, and in which a row has their fields
PARTS: tuple[Part, ...] = (
    admission.PART,
    spikes.PART,
    breaks.PART,
    scales.PART,
    season.PART,
    fine.PART,
    weekly.PART,
    features.PART,
    covariates.PART,
    linear.PART,
    companion.PART,
    model.PART,
    stack.PART,
    mixture.PART,
    drift.PART,
    intervals.PART,
    unrest.PART,
    pending.PART,
    windows.PART,
    watchdog.PART,
)


def parts_of(method: Method) -> list[Part]:
    """The parts that a method has, in their order."""
    return [part for part in PARTS if part.takes_part(method)]


@cache
def layout(method: Method) -> np.dtype[np.void]:
    """What one stream is: the fields of all parts, wide ones first, so that all are aligned without padding."""
    every = [field for part in parts_of(method) for field in part.fields(method)]
    fields = sorted(every, key=lambda field: -np.dtype(field[1]).itemsize)
    spare = -np.dtype(fields).itemsize % 8  # so that the next row is aligned too
    return np.dtype([*fields, ("spare", "u1", (spare,))])


def blank(method: Method) -> np.void:
    """A stream before its first event."""
    row: np.void = np.zeros(1, layout(method))[0]
    for part in parts_of(method):
        part.initialise(method, row)
    return row


def _published(method: Method) -> list[Field]:
    """What an event comes with, and what leaves the shard: a new field of a forecast is a line here.

    Forecasts are in the value's units, errors in horizon scales.
    """
    z, q = len(method.horizons), len(method.quantiles)
    return [
        ("row", "i8"),  # -1: none, since its value is missing
        ("offset", "i8"),
        ("time_ms", "i8"),
        ("record_ms", "i8"),
        ("value", "f8"),  # as it came
        ("raw", "f8"),  # transformed
        ("covariates", "f8", (len(method.covariates),)),  # NaN: absent
        ("verdict", "i8"),  # admission's
        ("turn", "i8"),  # which event of its row this is within the batch: the number of its wave
        ("elapsed_ms", "i8"),  # since the stream's previous event, -1 for its first
        ("step_ms", "i8"),  # the stream's own step, 0 while it has none
        ("mean", "f8", (z,)),
        ("quantiles", "f8", (z, q)),
        ("expected", "f8", (3,)),  # mean, low, high that the shortest horizon forecast of this event; NaN: nothing
        ("error", "f8", (z,)),  # label - forecast; NaN: no label, or a stream too young to have scales
        ("naive", "f8", (z,)),  # label - last value
        ("error_scale", "f8", (z,)),  # the horizon scales that these two are in
        ("network_error", "f8"),  # label - the network's own forecast of the first horizon
        ("inside", "u1", (z, method.bands)),  # 1: the label was in the band; where error is not NaN
    ]


def _worked_with(method: Method) -> list[Field]:
    """What parts hand to each other while an event is stepped."""
    z, k, q = len(method.horizons), len(method.spans), len(method.quantiles)
    return [
        ("n", "i8"),  # which event of its stream this is
        ("z", "f8"),  # what counts: the raw value, or the one before a spike that is held
        ("base", "f8"),  # what moves are published from: z, but the raw value at a stream's first suspect
        ("broke", "f8"),  # by what the level broke, if it did; else 0
        ("mended", "?"),  # the value went back to where it was before the last break
        ("shift", "f8"),  # by which the level of all that is remembered moves; 0: it stays
        ("since", "i8"),  # the first event whose value stays as it is then
        ("label", "f8", (z,)),  # the move that came, in the horizon scale of its origin; NaN: none
        ("seasonal_ahead", "f8", (k,)),  # sn by span
        ("profile_ahead", "f8", (k,)),  # pf by span
        ("slot_ahead", "i8", (k,)),
        ("time_ahead_ms", "i8", (k,)),
        ("moves", "f8", (len(experts.moves(method)), z)),  # of every expert; by name too: `<name>_move` (Z,)
        ("counted", "f8", (z, 1 + len(experts.mixed(method)))),  # the mixture's experts, as it weighs their moves
        ("whole_move", "f8", (z,)),  # the mixture's, before its guards
        ("mixed_move", "f8", (z,)),  # as it is published
        ("width", "f8", (z,)),  # of the band, in horizon scales
        ("error_in_widths", "f8", (z,)),  # of the forecast whose label this is, without its quantiles; NaN: none
        ("shortest_error", "f8"),  # of the first horizon, by the factor of its slot; NaN: none
        ("edges", "f8", (z, q)),  # of its quantiles: widths times the unit, increasing; whole, the median apart
        ("parts", "f8", (z, len(experts.part_names(method)))),  # forecasts of single experts
        ("fine", "?"),  # whether the event's own part of the day was seen before
        ("fine_place", "f8"),  # of the event among the parts of the day, from 0 to their number; -1: none
        ("fine_mean", "f8"),  # what the part at that place is to be
        ("week_step", "f8"),  # that the week's table has from the event's slot to the next event's; 0: not known
        ("x", "f4", (method.inputs,)),  # what the network sees
        ("phi", "f4", (companion.width(method) if method.has_companion else linear.width(method),)),  # regressors
        ("absurd", "?"),  # the value before was a mad one among the first
        ("broken", "?"),  # the gap was too long: the hidden state begins anew
    ]


@cache
def published(method: Method) -> np.dtype[np.void]:
    """The part of an event's record that is handed out: its first bytes."""
    fields = _published(method)
    return np.dtype([*fields, ("spare", "u1", (-np.dtype(fields).itemsize % 8,))])


@cache
def event(method: Method) -> np.dtype[np.void]:
    """The whole record of an event; moves are there twice, together and by the expert's name."""
    first, rest = published(method), np.dtype(_worked_with(method))
    size = first.itemsize + rest.itemsize
    places = {name: (kind, place) for name, (kind, place, *_) in (first.fields or {}).items()}
    places |= {name: (kind, first.itemsize + place) for name, (kind, place, *_) in (rest.fields or {}).items()}
    moves, z = places["moves"][1], len(method.horizons)
    own = np.dtype(("f8", (z,)))
    places |= {f"{name}_move": (own, moves + i * own.itemsize) for i, name in enumerate(experts.moves(method))}
    formats, offsets = zip(*places.values(), strict=True)
    return np.dtype({"names": [*places], "formats": formats, "offsets": offsets, "itemsize": -(-size // 8) * 8})


@cache
def fixed(method: Method) -> Fixed:
    """(1,) what follows from the settings: the method's own numbers, then those of each part."""
    values: dict[str, npt.ArrayLike] = {
        "horizons": method.horizon_array,  # (Z,) in events
        "start": method.pending_start,  # (Z + 1,) where each horizon's ring begins
        "spans": method.spans,  # (K,)
        "fractions": method.fraction_places,  # (5,) their places among the spans; the first is 1
        "looks": method.look_places,  # (5,) the same, of what the network sees
        "slots": method.season_slots,
        "least": method.least,  # the floor
        "root": method.root,  # the code of a bounded move's bound
    }
    for part in parts_of(method):
        mine = part.fixed(method)
        assert not mine.keys() & values.keys(), f"{mine.keys() & values.keys()} would be fixed twice"
        values |= mine
    arrays = {name: np.asarray(value) for name, value in values.items()}
    made: Rows = np.zeros(1, [(name, array.dtype, array.shape) for name, array in arrays.items()])
    for name, array in arrays.items():
        made[name] = array
    return made
