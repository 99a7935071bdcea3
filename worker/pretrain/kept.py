"""A training on disk: the best weights so far as a checkpoint, and in it what an interrupted training goes on from."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from pipeline.network.checkpoint import Checkpoint
from pipeline.network.model import Network
from pipeline.pretraining.training import State
from worker.refusal import Refusal

VECTORS = ("own", "first", "second", "mean")
NUMBERS = ("best_loss", "best_epoch", "epoch", "updates", "best_updates")
MARK = "training"  # in the header: what the training is of


def write(out: Path, network: Network, state: State, header: Mapping[str, str], unfinished: bool) -> None:
    """Put the file in the place of the one before, whole or not at all. Raises Refusal where it cannot be written."""
    training = {}
    if unfinished:
        training = {name: getattr(state, name) for name in VECTORS}
        training["numbers"] = np.array([getattr(state, name) for name in NUMBERS], np.float64)
    header = {**network.shape.words(), **header, "updates": str(state.best_updates)}
    beside = out.with_name(f"{out.name}.part")
    try:
        beside.write_bytes(Checkpoint(network.named(state.best), header, training).dump())
        beside.replace(out)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise Refusal(f"the checkpoint cannot be written: {error}") from error


def read(out: Path, network: Network, mark: str) -> State | None:
    """Where a training of this mark was interrupted; None where the file is no such thing."""
    try:
        found = Checkpoint.load(out.read_bytes())
        best = network.check(found.weights)
        vectors = {name: found.training[name] for name in VECTORS}
        numbers = dict(zip(NUMBERS, found.training["numbers"].tolist(), strict=True))
        counts = {name: int(number) for name, number in numbers.items() if name != "best_loss"}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # whatever is there instead
        return None
    if found.header.get(MARK) != mark or any(v.shape != best.shape or v.dtype != best.dtype for v in vectors.values()):
        return None
    own, first, second, mean = vectors.values()
    return State(own, first, second, mean, best, numbers["best_loss"], **counts)
