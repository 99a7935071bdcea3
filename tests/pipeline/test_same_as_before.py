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
    "many streams": Case(replace(DEFAULT, hidden_size=16), walks(2500, 2)),
    "lite": Case(replace(DEFAULT, profile="lite", stream_ttl_ms=60_000), walks(1500, 3), 37),
    "log, covariates": Case(
        replace(DEFAULT, transform="log", covariates=("wind", "sun"), hidden_size=8), positive(hourly(1500, 4))
    ),
    "lite log": Case(replace(DEFAULT, profile="lite", transform="log", quantiles=(0.1, 0.5, 0.9)),
                     positive(walks(900, 5))),
    "all horizons": Case(replace(DEFAULT, horizons=tuple(range(1, 25)), max_gap=20), hourly(1200, 6)),
    "horizon 1": Case(replace(DEFAULT, horizons=(1,), quantiles=(0.5,)), hourly(900, 7)),
    "lstm, two layers": Case(replace(DEFAULT, cell="lstm", layers=2, hidden_size=16), hourly(900, 8)),
    "tanh, trades": Case(
        replace(DEFAULT, cell="rnn_tanh", same_time="accept", stream_ttl_ms=40_000), walks(1500, 9), 41
    ),
    "relu, week": Case(replace(DEFAULT, cell="rnn_relu", season="week", horizons=(2, 7)), hourly(900, 10)),
    "events, no week": Case(
        replace(DEFAULT, season="events", season_slots=12, weekly="off", covariates=("wind",)), hourly(900, 11)
    ),
    "no season, fine rings": Case(replace(DEFAULT, season="none", fine_rings=True, horizons=(1, 5)), hourly(900, 12)),
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
    "default": "97f208992f6c0bc0",
    "trends that end": "97f208992f6c0bc0",
    "many streams": "a408c929444a6f6d",
    "lite": "5748a3e5ca1ce76c",
    "log, covariates": "2dfe8dba087fbacd",
    "lite log": "ec79bfc688dd3478",
    "all horizons": "ef2c8d816d56a44c",
    "horizon 1": "ffe8302d68c8bb15",
    "lstm, two layers": "9c64241380ffa331",
    "tanh, trades": "97f208992f6c0bc0",
    "relu, week": "b033a9e6196f222d",
    "events, no week": "26a2a8a46fa2b976",
    "no season, fine rings": "8f905700ed93791f",
}
BEFORE: dict[str, tuple[tuple[str, str, str], list[float]]] = {
    "default": (("f2f4df45629e6d5a", "aa45a0b28ee63fe2", "8eebd3275945c13e"), [45751.8, 223958, 3931.11]),
    "trends that end": (("d328ad1863651cfe", "1e660fc9785f2545", "7c950078543e0db6"), [22900.2, 124979, 3990.91]),
    "many streams": (("6a8264cbc777466e", "1a5c9ce140c8cac0", "3ff3d79d4b595fab"), [19189.5, 96889.1, 2003.58]),
    "lite": (("22d7f1bb0d421d2e", "d204b8697777ad44", "67f0fe004ae0e084"), [15371.2, 78708.1, 351.504]),
    "log, covariates": (("554b5d144b266155", "38cbff78488b44d5", "35fa6cea71565f92"), [12616.3, 64546, 1967.4]),
    "lite log": (("50cfc1064632b729", "cb0c749fb93aaf94", "d764b5ef81b945a4"), [2639.01, 7974.23, 38.0389]),
    "all horizons": (("b9b2193ea807bf03", "5c17fe8715979845", "886e0b3b06246ef4"), [106068, 508229, 6976.23]),
    "horizon 1": (("1e485a01b4aae23f", "95963d299081875e", "a5919ff1ecc66d14"), [3236.4, 3227.09, 267.191]),
    "lstm, two layers": (("9e860e7d7fb215be", "94fb912e0e50a558", "799d2ad947718d02"), [15480.9, 73719.3, 980.131]),
    "tanh, trades": (("fcaea5e4c51ee9e2", "5a62d242755a388a", "a7417e5b0a4f1d63"), [16455.6, 83053.8, 288.623]),
    "relu, week": (("71716c93b6948ff4", "0beba4a83f84e0ab", "7ab3b40d54cb6f08"), [6386.32, 29964.2, 577.224]),
    "events, no week": (("252e2d6c656bb149", "cb2910f2e40a2692", "4124f63d8b225ec8"), [16547, 79873.8, 1834.72]),
    "no season, fine rings": (("4f39070043e33130", "496a3692991a9689", "a52eaef9b15216d5"), [6551.5, 31497.4, 449.224]),
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
