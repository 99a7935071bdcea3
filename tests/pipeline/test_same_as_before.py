"""Forecasts, rows and images are, to the bit, those that were pinned with this version of the method.

The constants were taken by this very code (`python tests/pipeline/test_same_as_before.py`); whoever means to change
what is forecast raises `VERSION` and takes them anew. Last bits of exponentials, logarithms, sines and of
torch's matrices differ between kinds of CPU: where `ARITHMETIC` is another, only the sums below are compared.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import numba
import numpy as np
import pytest
import torch

import pipeline.shard
import pipeline.table
from pipeline.batch import DROPS
from pipeline.durable.image import MARKER_KEY
from pipeline.method import Method
from pipeline.shard import Shard, fingerprint
from pipeline.table import Table, layout
from tests.rigs.methods import TWO_LAYERS
from tests.rigs.shard_rigs import SETTINGS, Record, batch_of, make_log, pieces, restless

HOUR = 3_600_000
FIELDS = (
    "offset", "time_ms", "record_ms", "value", "step_ms", "mean", "quantiles", "parts", "expected", "error", "naive",
    "network_error", "inside",
)  # fmt: skip


class Case(NamedTuple):
    """A method and a log that shows all of it."""

    method: Method
    log: Callable[[Method], list[Record]]
    sweep_every: int = 10_000


def hourly(events: int, seed: int, streams: int = 9) -> Callable[[Method], list[Record]]:
    """Daily shapes with spikes that go back, gaps, a mad value among the first, doubled and missing events."""

    def log(method: Method) -> list[Record]:
        rng, out, at = np.random.default_rng(seed), list[Record](), np.zeros(streams, np.int64)
        level = rng.normal(0, 3, streams)
        for i in range(events):
            s = int(rng.integers(0, streams)) if i % 50 < 40 else i % 3  # also many events of few streams
            at[s] += 1 if rng.random() > 0.004 else 300
            level[s] += 0.2 * rng.normal()
            time_ms, kind = 1_700_000_400_000 + HOUR * int(at[s]), rng.random()
            value = 20 + level[s] + 4 * np.sin(2 * np.pi * at[s] / 24) + (60.0 if kind < 0.03 else 0.0)
            value = -9999.0 if at[s] == 5 and s % 4 == 0 else np.nan if 0.03 < kind < 0.06 else value
            given = tuple(float(c) if rng.random() < 0.8 else np.nan for c in rng.normal(size=len(method.covariates)))
            event = Record(len(out), f"h{s}", time_ms, time_ms, float(value), given)
            out.append(event)
            if kind > 0.97:
                out.append(event._replace(offset=len(out)))
        return out

    return log


def trending(events: int, seed: int, streams: int = 2) -> Callable[[Method], list[Record]]:
    """By the hour, all at once: a level, a trend from a third of the events on, a level from two thirds on."""

    def log(_method: Method) -> list[Record]:
        rng, at = np.random.default_rng(seed), np.arange(events // streams)
        path = 0.4 * np.clip(at - len(at) // 3, 0, len(at) // 3)
        times = 1_700_000_400_000 + HOUR * at
        all_of = [(int(t), s, p + rng.normal()) for t, p in zip(times, path, strict=True) for s in range(streams)]
        return [Record(i, f"t{s}", t, t, float(value), ()) for i, (t, s, value) in enumerate(all_of)]

    return log


def walks(events: int, seed: int) -> Callable[[Method], list[Record]]:
    return lambda method: make_log(seed, events, method)


def positive(log: Callable[[Method], list[Record]]) -> Callable[[Method], list[Record]]:
    """For logarithms."""
    return lambda method: [r._replace(value=float(np.exp(np.clip(r.value, -40, 40) / 20))) for r in log(method)]


DEFAULT = Method()
CASES = {
    "default": Case(DEFAULT, hourly(2500, 1)),
    "trends that end": Case(DEFAULT, trending(1400, 13)),
    "many streams": Case(replace(DEFAULT, hidden_size=8), walks(2500, 2)),
    "lite": Case(replace(DEFAULT, profile="lite", stream_ttl_ms=60_000), walks(1500, 3), 37),
    "log, covariates, 3 quantiles": Case(
        replace(DEFAULT, transform="log", covariates=("wind", "sun"), quantiles=(0.1, 0.5, 0.9), hidden_size=8),
        positive(hourly(1500, 4)),
    ),
    "lite log": Case(replace(DEFAULT, profile="lite", transform="log"), positive(walks(900, 5))),
    "all horizons": Case(replace(DEFAULT, horizons=tuple(range(1, 25)), max_gap=20), hourly(1200, 6)),
    "horizon 1": Case(replace(DEFAULT, horizons=(1,), quantiles=(0.5,)), hourly(900, 7)),
    "lstm, two layers": Case(TWO_LAYERS, hourly(900, 8)),
    "tanh, trades": Case(
        replace(DEFAULT, cell="rnn_tanh", same_time="accept", stream_ttl_ms=40_000), walks(1500, 9), 41
    ),
    "relu, week, fine rings": Case(
        replace(DEFAULT, cell="rnn_relu", season="week", horizons=(2, 7), hidden_size=8, fine_rings=True),
        hourly(900, 10),
    ),
    "events, no week": Case(
        replace(DEFAULT, season="events", season_slots=12, weekly="off", covariates=("wind",)), hourly(900, 11)
    ),
    "no season": Case(replace(DEFAULT, season="none"), hourly(900, 12)),
}  # fmt: skip


def hashed(*parts: bytes) -> str:
    return blake2b(b"".join(parts), digest_size=8).hexdigest()


def bits(array: np.ndarray) -> bytes:
    """NaN has many; here it has one."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    return array.tobytes()


@numba.njit
def compiled_arithmetic(x: np.ndarray) -> np.ndarray:
    out = np.empty((7, len(x)))
    for i in range(len(x)):
        single = np.float32(x[i])
        out[0, i], out[1, i], out[2, i] = np.exp(x[i]), np.log(abs(x[i])), np.sin(x[i])
        out[3, i], out[4, i], out[5, i], out[6, i] = np.cos(x[i]), np.exp(single), np.tanh(single), np.log(abs(single))
    return out


def arithmetic() -> str:
    """Names how this machine rounds."""
    torch.set_num_threads(1)
    x = np.random.default_rng(0).normal(size=1000) * 10
    seen = torch.from_numpy(x.astype(np.float32)).reshape(25, 40)
    matrix = (seen @ seen.T).numpy()
    torch_too = [torch.tanh(seen).numpy(), torch.sigmoid(seen).numpy(), matrix, matrix[:8]]
    mine = [np.exp(x), np.log(np.abs(x)), compiled_arithmetic(x)]
    return hashed(*(a.tobytes() for a in (*torch_too, *mine)))


def without_checksums(marker: bytes) -> bytes:
    """As it was before pages had any, before it named its log and a border, and before drops had more reasons."""
    fields = msgspec.json.decode(marker)
    assert fields.pop("checksum") is not None
    assert (fields.pop("source"), fields.pop("border")) == ("", 0)
    assert len(fields.pop("page_checksums")) == len(fields["letters"])
    assert [fields["counters"].pop(reason) for reason in DROPS[3:]] == [0, 0]
    return msgspec.json.encode(fields)


def folded(name: str) -> dict[str, Any]:
    """Digests of all that a case comes to, and sums of it."""
    torch.set_num_threads(1)
    case = CASES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.shard, "SWEEP_EVERY", case.sweep_every)
        patch.setattr(pipeline.table, "PAGE_BYTES", 4 * layout(case.method).itemsize)
        log = case.log(case.method)
        shard = Shard(case.method, restless(case.method), 0, SETTINGS, parts=True)
        cuts, rng = np.cumsum(np.random.default_rng(20).choice([1, 1, 2, 7, 40, 300], 200)), np.random.default_rng(21)
        seen: dict[str, list[bytes]] = {field: [] for field in FIELDS}
        names, sums, image = list[str](), np.zeros(3), list[bytes]()
        for i, part in enumerate(pieces(log, cuts.tolist())):
            if shard.pages_to_send is None and i % 9 == 4:
                shard.begin_snapshot()
            elif shard.pages_to_send is not None:
                for key, value in shard.snapshot_pieces(int(rng.integers(1, 3)))[0]:
                    image += [key, without_checksums(value) if key == MARKER_KEY else value]
            forecasts = shard.advance(batch_of(part, case.method))
            names += [*forecasts.name, *forecasts.born, repr(forecasts.verdict.tolist())]
            for field in FIELDS:
                seen[field].append(bits(getattr(forecasts, field)))
            squashed = [np.arcsinh(np.nan_to_num(a)) for a in (forecasts.mean, forecasts.quantiles, forecasts.error)]
            sums += [np.abs(a).sum() for a in squashed]
    rows = shard.table.rows[: len(shard.table.names)]
    by_name = {field: hashed(bits(rows[field])) for field in sorted(rows.dtype.names or ())}
    return {
        "forecasts": {field: hashed(*parts) for field, parts in seen.items()},
        "names": hashed(repr(names).encode()),
        "rows": by_name,
        "image": hashed(*image),
        "watch": hashed(shard.watch.tobytes()),
        "sums": [float(f"{x:.6g}") for x in sums],
    }


def summary(found: dict[str, Any]) -> tuple[str, str, str]:
    """Of forecasts, of rows by field, of the image."""
    said = repr(sorted(found["forecasts"].items())) + found["names"]
    rows = repr(sorted(found["rows"].items())) + found["watch"]
    return hashed(said.encode()), hashed(rows.encode()), found["image"]


ARITHMETIC = "89f621c0fc348d4c"  # of an AMD EPYC with AVX-512
FINGERPRINTS = {
    "default": "2b52b0a63a5fd922",
    "trends that end": "2b52b0a63a5fd922",
    "many streams": "81ce73bdfcf2c11c",
    "lite": "a322220d3c19af29",
    "log, covariates, 3 quantiles": "8a23b16e67f9f2c2",
    "lite log": "a322220d3c19af29",
    "all horizons": "ddbad3ebdb497191",
    "horizon 1": "ae67db449447fdb5",
    "lstm, two layers": "06e630a6bde7c85b",
    "tanh, trades": "2b52b0a63a5fd922",
    "relu, week, fine rings": "8f9feaa16b6eeb71",
    "events, no week": "c055f984c11a94ec",
    "no season": "2b52b0a63a5fd922",
}
BEFORE: dict[str, tuple[tuple[str, str, str], list[float]]] = {
    "default": (("a484fc21261bb8b2", "ad2a47a8923fcd06", "811b613b2bcdd6d2"), [45766.6, 224970.0, 3904.88]),
    "trends that end": (("d0dc6e4ae41ea65e", "d31c4924a36d4dc5", "7a20b3463ce67378"), [22905.6, 124953.0, 3726.15]),
    "many streams": (("5f9e8d7635b812e7", "97bbe5ed7ad5b3cd", "7131a019d27fbc4b"), [19107.3, 96866.0, 1997.26]),
    "lite": (("0ee3161a89e876cd", "7c9f7f2d3838d82a", "3badb838b6364788"), [15358.4, 78765.2, 352.081]),
    "log, covariates, 3 quantiles": (
        ("720cc0ee3f3064dd", "a4ff93adf8156e12", "b797f87e5e4a1b37"),
        [12624.1, 38344.8, 1921.39],
    ),
    "lite log": (("8af6f4100ddc60b9", "db51641ad57b5319", "5ad77826d544dda1"), [2644.0, 13405.3, 38.4057]),
    "all horizons": (("f4185aaa3d0004c8", "6cdc7f22c462c3e4", "84e30648e3163a2f"), [105860.0, 511750.0, 6805.9]),
    "horizon 1": (("02904ed3d0e56119", "1e30632ee8bedd8e", "ba8535753eb257b4"), [3228.21, 3219.92, 270.435]),
    "lstm, two layers": (("e8640b5dd9db7833", "b19f12aac5e85882", "98700ef2837e2f0b"), [6206.58, 30060.2, 403.098]),
    "tanh, trades": (("0cca17d588c51487", "b73d907e9031f522", "2b70659ea393a865"), [16461.4, 83102.3, 286.904]),
    "relu, week, fine rings": (
        ("f784ba579180f17d", "d2830e0912103617", "bccf535ece900ced"),
        [6423.66, 30277.3, 549.027],
    ),
    "events, no week": (("442b4e9b53d5937d", "ae6d0d4e1c427f80", "20a630d8981ff9ee"), [16595.0, 80226.6, 1706.43]),
    "no season": (("325d3dc413304c92", "214704032ee31a1e", "a6b812df433ecccd"), [16379.9, 78528.9, 1202.73]),
}


@pytest.mark.parametrize("name", CASES)
def test_forecasts_rows_and_images_are_those_of_before(name: str) -> None:
    digests, sums = BEFORE[name]
    found = folded(name)
    assert found["sums"] == pytest.approx(sums, rel=1e-3)
    if arithmetic() == ARITHMETIC:
        assert summary(found) == digests
    assert fingerprint(SETTINGS, Table(CASES[name].method)) == FINGERPRINTS[name], "images are still read"


def test_a_case_withholds_drifts() -> None:
    case = CASES["trends that end"]
    shard = Shard(case.method, restless(case.method), 0, SETTINGS)
    shard.advance(batch_of(case.log(case.method)[:1000], case.method))  # the trend ends at 932
    assert shard.table.rows["drift_over"].max() > 0.5


def main() -> None:
    """Print the constants; with the name of a case, its digests by field."""
    import sys

    if sys.argv[1:]:
        found = folded(sys.argv[1])
        for kind in ("forecasts", "rows"):
            for field, digest in found[kind].items():
                print(kind, field, digest)
        print("names", found["names"], "watch", found["watch"], "image", found["image"])
        return
    print(f'ARITHMETIC = "{arithmetic()}"')
    print("FINGERPRINTS =", {name: fingerprint(SETTINGS, Table(case.method)) for name, case in CASES.items()})
    print("BEFORE =", {name: (summary(found := folded(name)), found["sums"]) for name in CASES})


if __name__ == "__main__":
    main()
