"""A training, from history to checkpoint and a report beside the last value; one that was interrupted goes on."""

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from pipeline.method import LOOKS, VERSION
from pipeline.network.model import Network
from pipeline.parts.features import NAMES
from pipeline.pretraining.sequences import Sequences
from pipeline.pretraining.training import Schedule, Score, State, TrainingError, begin, next_epoch, score
from worker import __version__
from worker.backtest.run import QUIET_S
from worker.plan import Plan
from worker.pretrain import kept
from worker.pretrain.reading import Source, joined
from worker.refusal import Refusal

HEAD = "horizon     labels    before     after     skill"
COLUMNS = 8  # horizons that a line has room for


def run(sources: Sequence[Source], plan: Plan, schedule: Schedule, out: Path, about: str = "") -> int:
    """Train, write the checkpoint after every epoch, print the report. Returns the exit code. Raises Refusal."""
    data, network = joined(sources), plan.network()
    try:
        first = begin(network, data)
        before, mark = score(network, first.best, data), _mark(data, first, schedule)
        header = _header(sources, about) | {kept.MARK: mark}
        state = kept.read(out, network, mark) or first
        if not state.epoch and out.exists():
            raise Refusal(
                f"--out is {out}, which is there and is no interrupted training of this history: name another file, or "
                "remove it"
            )
        if state.epoch:
            print(f"{out} goes on after epoch {state.epoch}", file=sys.stderr)
        for after in _epochs(network, data, state, schedule):
            state = after
            figures = {"held out": json.dumps(_figures(score(network, state.best, data), network))}
            goes_on = not state.over(schedule)
            if not schedule.cool_down:  # more epochs may be asked for
                goes_on = state.epoch < state.best_epoch + schedule.patience
            kept.write(out, network, state, header | figures, goes_on)
    except TrainingError as error:
        raise Refusal(str(error)) from error
    except KeyboardInterrupt:
        if out.exists():
            print(
                f"stopped: {out} is as after its last epoch; the same command on the same history goes on there",
                file=sys.stderr,
            )
        return 130
    if not state.best_epoch:
        out.unlink(missing_ok=True)
        brought = f"{state.epoch} epochs brought nothing on held-out time"
        raise Refusal(f"{brought}: {out} is not written; give a longer history or other streams")
    print("\n".join(_report(header["data"], before, score(network, state.best, data), network)))
    if len(sources) > 1:
        print("\n".join(_by_source(sources, network, state)))
    print(f"{out}: {state.best_updates:,} updates in {state.best_epoch} epochs; start from it with model.checkpoint")
    return 0


def _header(sources: Sequence[Source], about: str) -> dict[str, str]:
    return {
        "made by": f"foldcast {__version__}",
        "method": str(VERSION),
        "features": ",".join(NAMES),
        "data": ", ".join(source.words for source in sources),
        "about": about,
    }


def _epochs(network: Network, data: Sequences, state: State, schedule: Schedule) -> Iterator[State]:
    """Yield the state after each epoch that is left, with a bar for people."""
    events, left = len(data.inputs), schedule.epochs - state.epoch
    with tqdm(total=left * events, unit=" events", unit_scale=True, delay=QUIET_S, disable=None) as bar:
        while not state.over(schedule):
            bar.set_description(f"epoch {state.epoch + 1}, the best so far {state.best_epoch}")
            state = next_epoch(network, data, state, schedule, bar.update)
            yield state


def _mark(data: Sequences, state: State, schedule: Schedule) -> str:
    """Name the training: data, first weights, schedule. More epochs of the same go on where fewer ended, uncooled."""
    words = {name: value for name, value in asdict(schedule).items() if name != "epochs" or schedule.cool_down}
    digest = hashlib.blake2b(json.dumps([VERSION, words]).encode(), digest_size=16)
    for array in (*data, state.own):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _figures(found: Score, network: Network) -> dict[str, dict[str, float | None]]:
    """By horizon: labels, and the squared error by the last value's."""
    columns = zip(network.shape.horizons, found.labels.tolist(), found.ratio.tolist(), strict=True)
    return {str(h): {"labels": n, "error": None if math.isnan(ratio) else round(ratio, 6)} for h, n, ratio in columns}


def _report(words: str, before: Score, after: Score, network: Network) -> Iterator[str]:
    yield f"learnt from {words}"
    yield HEAD
    first, last = (_figures(one, network) for one in (before, after))
    for h, row in last.items():
        was, now = first[h]["error"], row["error"]
        cells = [f"{'-':>9}"] * 3 if was is None or now is None else [f"{n:>9.3f}" for n in (was, now, 1 - now)]
        yield " ".join([f"{h:>7}", f"{row['labels']:>10,}", *cells])
    yield "squared error of the network alone on held-out time by the last value's, in horizon scales; 1 is as good"
    yield "that time also chose the epoch: expect a little less skill on what is new"


def _by_source(sources: Sequence[Source], network: Network, state: State) -> Iterator[str]:
    """Each source's own held-out error by the last value's, at each horizon, or some where they are many."""
    horizons = network.shape.horizons
    shown = [*range(0, len(horizons), -(-len(horizons) // COLUMNS))]
    if len(horizons) > COLUMNS and {*LOOKS} <= {*horizons}:
        shown = [horizons.index(h) for h in LOOKS]
    yield " ".join([f"{'held out of':24}", f"{'labels':>10}", *(f"{horizons[j]:>7}" for j in shown)])
    for source in sources:
        found = score(network, state.best, source.sequences)
        errors = (f"{'-':>7}" if math.isnan(ratio) else f"{ratio:>7.3f}" for ratio in found.ratio[shown].tolist())
        yield " ".join([f"{source.name:24}", f"{found.labels.sum():>10,}", *errors])
