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


def walks(events: int, seed: int) -> Callable[[Method], list[Record]]:
    return lambda method: make_log(seed, events, method)


def positive(log: Callable[[Method], list[Record]]) -> Callable[[Method], list[Record]]:
    """For logarithms."""
    return lambda method: [r._replace(value=float(np.exp(np.clip(r.value, -40, 40) / 20))) for r in log(method)]


DEFAULT = Method()
CASES = {
    "default": Case(DEFAULT, hourly(2500, 1)),
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
    "default": "007feeed06f6fd81",
    "many streams": "2ed772457870aaf9",
    "lite": "23c03e30fa411ae9",
    "log, covariates": "4a5ca6f7e4e27343",
    "lite log": "7c1be1e437aea8fd",
    "all horizons": "ed15bc41dae8b480",
    "horizon 1": "a8ab5a3c1990db51",
    "lstm, two layers": "fe4636209b6ab7db",
    "tanh, trades": "007feeed06f6fd81",
    "relu, week": "d11a23f038545680",
    "events, no week": "62a07f74eb2c89cc",
    "no season, fine rings": "31e42e0fd02bef75",
}
BEFORE: dict[str, tuple[tuple[str, str, str], list[float]]] = {
    "default": (("e41c0da628d6a5cd", "c331571667a9d183", "0cf80d407170167f"), [45782.1, 226098.0, 3953.56]),
    "many streams": (("e3c62db4149b289e", "59bd8bfde429692a", "6a5a5fe474eaeadc"), [19197.7, 98881.7, 2006.12]),
    "lite": (("31dd2c54dad2917a", "b347c57a088f97da", "b10c1b6f8b4073fa"), [15371.3, 79639.3, 351.504]),
    "log, covariates": (("3d82c69046738bb2", "73a5be7c022f805d", "36001cd2d21676fa"), [12616.3, 64431.9, 1967.4]),
    "lite log": (("d66c625a00f5e0c2", "6d95f7499877df35", "abcd6219b5f8a930"), [2639.01, 7971.71, 38.0389]),
    "all horizons": (("6b8dad85a56db295", "4d16b4d13d7b9408", "ff17da1c2eddb02b"), [106102.0, 517998.0, 6976.38]),
    "horizon 1": (("b5d44154aae55fcd", "7afbe6b2dd9eb6fc", "ed746ffbc355238a"), [3236.4, 3226.94, 267.191]),
    "lstm, two layers": (("42e383974211cb81", "1ddbc5e7fc3ed4d4", "d2604c293a482f55"), [15480.9, 76430.9, 980.131]),
    "tanh, trades": (("ac1d79f63df44561", "ae9b1bb07aa71ba0", "f3c5eaad3ff4ee48"), [16511.4, 84446.0, 286.178]),
    "relu, week": (("375c144f565a97bc", "3c616c859b261777", "f90f81b8ad7f9339"), [6402.2, 31330.0, 577.288]),
    "events, no week": (("6875ed2175cc36f9", "ba4d491456bc2589", "9020b48e3108bf1b"), [16587.0, 82613.8, 1835.32]),
    "no season, fine rings": (("1b13c031e1e335bc", "869a2eb3b7fc9edd", "abf9368cd1d356b1"), [6551.5, 32353.9, 449.224]),
}


@pytest.mark.parametrize("name", CASES)
def test_forecasts_rows_and_images_are_those_of_before(name: str) -> None:
    digests, sums = BEFORE[name]
    found = folded(name)
    assert found["sums"] == pytest.approx(sums, rel=1e-3)
    if arithmetic() == ARITHMETIC:
        assert summary(found) == digests
    assert fingerprint(SETTINGS, Table(CASES[name].method)) == FINGERPRINTS[name], "images are still read"


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
