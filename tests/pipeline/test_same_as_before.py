"""Forecasts, rows and images are, to the bit, those of the commit before kernels took records (ae50a3f).

The constants were taken there by this very code (`python tests/pipeline/test_same_as_before.py`); whoever means to
change what is forecast raises `VERSION` and takes them anew. Last bits of exponentials, logarithms, sines and of
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


ARITHMETIC = "fa35c77b40e53a5d"  # of an Intel Xeon with AVX-512
FINGERPRINTS = {
    "default": "5ce17a377f6b4820",
    "trends that end": "5ce17a377f6b4820",
    "many streams": "52b72fe2a629e8ea",
    "lite": "1645861209a77601",
    "log, covariates, 3 quantiles": "3d2cad8ed38c698a",
    "lite log": "1645861209a77601",
    "all horizons": "a297bb2ed6c1c951",
    "horizon 1": "0b16bcd57add15c9",
    "lstm, two layers": "3326daf1d3b265d0",
    "tanh, trades": "5ce17a377f6b4820",
    "relu, week, fine rings": "001c7e983049a522",
    "events, no week": "308b71beb3fd8fec",
    "no season": "5ce17a377f6b4820",
}
BEFORE: dict[str, tuple[tuple[str, str, str], list[float]]] = {
    "default": (("97d0028cc23732ae", "e1329594988a63e1", "317bb872251d9873"), [45776.8, 225002, 3908.69]),
    "trends that end": (("4319b1358fda1879", "b6ee21d320e70171", "968c38856da8337c"), [22887.9, 124876, 3988.81]),
    "many streams": (("f316d1e9c4aad294", "cc5f33adefd3bcc6", "cff6295057afa1e9"), [19099.6, 96854.1, 1990.18]),
    "lite": (("dd331de2888b25d3", "4c92a31df0191706", "e1f8cb34b0eacffd"), [15363.6, 78785.4, 351.263]),
    "log, covariates, 3 quantiles": (
        ("167dff314c90db10", "f2c78256c298dba6", "80f018ecd313fba6"),
        [12633.4, 38364.6, 1945.98],
    ),
    "lite log": (("cfb2563f1011ee55", "b2c53c6279f316a7", "33f8240093a94a94"), [2643.97, 13404.8, 38.1432]),
    "all horizons": (("4ba86b8076794902", "5fdc2f94e46b6275", "984ee4af06c6a3e6"), [105908, 510428, 6812.15]),
    "horizon 1": (("fcdae7ec8d10ab47", "38fdd184436e12ab", "799a9285cea67a99"), [3225.08, 3214.82, 270.592]),
    "lstm, two layers": (("9a8094386009fc07", "e1553d3482935eb5", "897d02fb7398bc6b"), [6206.62, 30012.6, 410.21]),
    "tanh, trades": (("abee02ae88adb16c", "1f993f04f2de10fc", "e0c6bee671c5d0ec"), [16465.6, 83122.9, 287.484]),
    "relu, week, fine rings": (
        ("7357432400efa77f", "c07143ccb76eaaf9", "26779e58acd042a7"),
        [6439.68, 30172.6, 583.477],
    ),
    "events, no week": (("d77c092df4b178cd", "4cb602bd9a77e58b", "b84da7037ac7cb58"), [16593.8, 80097.4, 1817.31]),
    "no season": (("59048f6f76881e42", "005e96dd13e5432f", "1ae3ad73a87dbc1c"), [16380.6, 78522.4, 1242.8]),
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
    shard.advance(batch_of(case.log(case.method), case.method))
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
