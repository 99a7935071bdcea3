"""An image of before the newest settings is read where these stand at their defaults."""

import json
from dataclasses import replace
from zlib import crc32

import pytest

from pipeline.durable.image import MARKER_KEY, ImageError, OtherSettingsError, read_image
from pipeline.shard import fingerprint
from worker.lives import unfit
from worker.lives.loading import cold_start, loaded
from worker.plan import Plan
from worker.settings.settings import LATER
from worker.settings.sources import load

# As commit b1800c1 wrote it, before paths, sentinels and time zones, under the default settings
WRITTEN = (
    b'{"offset":0,"method":"","settings":{"events.stream_field":"stream","events.time_field":"time",'
    b'"events.target_field":"value","events.covariates":[],"events.transform":"none","events.same_time":"drop",'
    b'"events.max_ahead_s":3600,"events.max_gap":100,"model.cell":"gru","model.hidden_size":32,"model.layers":1,'
    b'"model.profile":"full","model.season":"auto","model.season_slots":24,"model.weekly":"on",'
    b'"model.horizons":[1,3,6,12,24],"model.quantiles":[0.025,0.1,0.5,0.9,0.975],"fine_tune.window":24,'
    b'"worker.stream_ttl_s":null},"letters":"","page_offsets":[],"weights":0,"counters":{"records":0,"forecasts":0,'
    b'"late":0,"duplicate":0,"missing":0,"dead":0},"clock_ms":0,"next_sweep":10000,'
    b'"watch":[0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0],"clean":false,"page_checksums":[],"source":"","checksum":null}'
)


def of_today(written: bytes) -> bytes:
    """The marker as today's version of the method would have signed it: only that made it another's since."""
    table = Plan.of(load(None, {}, events={})).shard(0).table
    method = fingerprint(json.loads(written)["settings"], table).encode()
    signed = written.replace(b'"method":""', b'"method":"' + method + b'"')
    return signed.replace(b'"checksum":null', b'"checksum":%d' % crc32(signed))


MARKER = of_today(WRITTEN)
# The same with events.target_field = "data.temp", which was a name then
DOTTED = of_today(WRITTEN.replace(b'target_field":"value"', b'target_field":"data.temp"'))


def refusal(marker: bytes, **events: object) -> str | None:
    """Load an image with this marker under these settings of `[events]`; return why not, or None."""
    plan = Plan.of(load(None, {}, events=events))
    image = read_image([*cold_start(plan.shard(0)), (MARKER_KEY, marker)])
    try:
        shard, _ = loaded(image, plan)
    except ImageError as error:
        return str(error)
    assert (shard.position, shard.counters.sentinel, shard.border) == (0, 0, 0)
    return None


def test_an_image_of_before_is_read_under_the_defaults() -> None:
    assert refusal(MARKER) is None
    defaults = {name.removeprefix("events."): value for name, value in LATER.items() if name.startswith("events.")}
    del defaults["target_fields"]  # under which no target_field may be given
    assert refusal(MARKER, **defaults) is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("numbers", "lenient"), ("missing_values", [-9999.0]), ("range", [-50.0, 60.0]),
        ("outside_range", "dead_letter"), ("timezone", "Europe/Berlin"), ("earliest", "1970-01-01"),
        ("target_fields", ["value", "other"]),
    ],
)  # fmt: skip
def test_it_is_refused_where_one_of_the_new_settings_is_set(setting: str, value: object) -> None:
    assert refusal(MARKER, **{setting: value}) == f"events.{setting} was the default and is {value!r}"


def test_a_name_with_a_dot_is_still_that_name_and_a_path_is_none() -> None:
    assert refusal(DOTTED, target_field=r"data\.temp") is None
    assert refusal(DOTTED, target_field="data.temp") == "events.target_field was 'data.temp' and is ['data', 'temp']"


def test_a_damaged_marker_of_before_is_refused() -> None:
    with pytest.raises(ImageError, match="the marker is damaged"):
        read_image([(MARKER_KEY, MARKER.replace(b'"next_sweep":10000', b'"next_sweep":20000'))])


def test_each_refusal_names_the_way_out_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan.of(load(None, {}, events={}))
    image = read_image([*cold_start(plan.shard(0)), (MARKER_KEY, MARKER)])
    monkeypatch.setattr("pipeline.shard.VERSION", -1)
    with pytest.raises(ImageError) as other_version:
        loaded(image, plan)
    assert unfit.other_image(3, other_version.value) == (
        "the changelog of partition 3 cannot be gone on with: its state is of another version of the method, or of "
        "rows of another layout; go on under a new kafka.group_id (`foldcast run --from-group`)"
    )
    with pytest.raises(OtherSettingsError) as other_settings:
        loaded(image, replace(plan, settings=plan.settings | {"model.season": "week"}))
    assert unfit.other_image(3, other_settings.value) == (
        "the changelog of partition 3 does not fit these settings: model.season was 'auto' and is 'week'; restore "
        "them, or go on under a new kafka.group_id (`foldcast run --from-group`)"
    )
