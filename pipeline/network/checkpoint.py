"""A checkpoint: weights in one safetensors file whose header says what they are for and what they were trained on.

It is safe to load: numbers and text, no code. Where a training was interrupted it also has what the training goes on
from. Weights of another hand without such a header are taken where their shapes fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from pipeline.arrays import AnyFloats

TRAINING = "training/"  # before the names of tensors that only a training needs
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}  # by what safetensors calls them
MOST_UPDATES = 2**53
BRIEF = 16  # words of a list that a message shows whole


class _Header(msgspec.Struct):
    metadata: dict[str, str] | None = msgspec.field(default=None, name="__metadata__")


class Misfit(ValueError):  # noqa: N818 - a state of two things beside each other
    """A checkpoint was trained for another network; the message says which settings differ."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name; what a training needs, by name; and the header, text by name."""

    weights: Mapping[str, AnyFloats]
    header: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, AnyFloats] = field(default_factory=dict)

    @property
    def updates(self) -> int:
        """How many updates made the weights; 0 where the header does not say."""
        digits = self.header.get("updates", "0")
        return min(int(digits), MOST_UPDATES) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0

    def dump(self) -> bytes:
        """Write it down as safetensors."""
        tensors = {**self.weights, **{TRAINING + name: tensor for name, tensor in self.training.items()}}
        return saved(tensors, self.header)

    @classmethod
    def load(cls, data: bytes) -> "Checkpoint":
        """From `dump`. Raises ValueError where it is damaged; whether the weights fit, the network knows."""
        tensors = tensors_of(data)
        end = 8 + int.from_bytes(data[:8], "little")  # safetensors has checked it
        try:
            header = msgspec.json.decode(data[8:end], type=_Header).metadata or {}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"the weights' header cannot be read: {error}") from error
        training = taken(tensors, TRAINING)
        return cls(tensors, header, training)

    def of_horizons(self, horizons: Sequence[int]) -> "Checkpoint":
        """With the head's rows of these horizons, in their order, where it has one of each; else as it is.

        Raises ValueError where the head has not the rows that the header says.
        """
        theirs, mine = self.header.get("horizons", "").split(","), [str(h) for h in horizons]
        head = {name: array for name, array in self.weights.items() if name.startswith("head.")}
        if not {*mine} <= {*theirs}:
            return self
        if any(array.shape[:1] != (len(theirs),) for array in head.values()):
            raise ValueError(f"the head has not one row of weights for each of {len(theirs)} horizons")
        rows = [theirs.index(h) for h in mine]
        weights = {**self.weights, **{name: array[rows] for name, array in head.items()}}
        return replace(self, weights=weights, header={**self.header, "horizons": ",".join(mine)})

    def check(self, wanted: Mapping[str, str]) -> None:
        """Raise Misfit where the header has another value than `wanted`, by the names of settings."""
        other = {name: self.header[name] for name in wanted if self.header.get(name, wanted[name]) != wanted[name]}
        if other:
            theirs, mine = (
                " and ".join(f"{name} = {_brief(which[name])}" for name in other) for which in (other, wanted)
            )
            raise Misfit(f"it was trained with {theirs}, and here it is {mine}")


def _brief(words: str) -> str:
    """A list with its middle left out where it is long."""
    parts = words.split(",")
    return ",".join([*parts[:3], "...", parts[-1]]) if len(parts) > BRIEF else words


def saved(tensors: Mapping[str, AnyFloats], header: Mapping[str, str] | None = None) -> bytes:
    """Write safetensors."""
    contiguous = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    return safetensors.numpy.save(contiguous, dict(header) if header else None)


def tensors_of(data: bytes) -> dict[str, AnyFloats]:
    """Read safetensors, by name. Raises ValueError where they are damaged, or no floating-point numbers."""
    try:
        found = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(f"the weights cannot be read: {error}") from error
    return {name: _array(name, tensor["dtype"], tensor["data"]).reshape(tensor["shape"]) for name, tensor in found}


def _array(name: str, dtype: str, data: bytes) -> AnyFloats:
    if dtype == "BF16":  # the upper half of a float32; numpy has no such type
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype not in TYPES:
        raise ValueError(f"the weights cannot be read: {name!r} holds {dtype}, not one of {', '.join(TYPES)} and BF16")
    return np.frombuffer(data, TYPES[dtype])


def taken(tensors: dict[str, AnyFloats], prefix: str) -> dict[str, AnyFloats]:
    """Those under the prefix, out of `tensors`."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
