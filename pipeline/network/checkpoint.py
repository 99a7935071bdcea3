"""A checkpoint: weights in one safetensors file whose header says what they are for and what they were trained on.

It is safe to load: numbers and text, no code. Where a training was interrupted it also has what the training goes on
from. Weights of another hand without such a header are taken where their shapes fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

TRAINING = "training/"  # before the names of tensors that only a training needs
MOST_UPDATES = 2**53


class _Header(msgspec.Struct):
    metadata: dict[str, str] | None = msgspec.field(default=None, name="__metadata__")


class Misfit(ValueError):  # noqa: N818 - a state of two things beside each other
    """A checkpoint was trained for another network; the message says which settings differ."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name; what a training needs, by name; and the header, text by name."""

    weights: Mapping[str, Tensor]
    header: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def updates(self) -> int:
        """How many updates made the weights; 0 where the header does not say."""
        digits = self.header.get("updates", "0")
        return min(int(digits), MOST_UPDATES) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0

    def dump(self) -> bytes:
        """Write it down as safetensors."""
        tensors = {name: weight.contiguous() for name, weight in self.weights.items()}
        tensors |= {TRAINING + name: tensor.contiguous() for name, tensor in self.training.items()}
        return safetensors.torch.save(tensors, dict(self.header))

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

    def check(self, wanted: Mapping[str, str]) -> None:
        """Raise Misfit where the header has another value than `wanted`, by the names of settings."""
        other = {name: self.header[name] for name in wanted if self.header.get(name, wanted[name]) != wanted[name]}
        if other:
            theirs, mine = (" and ".join(f"{name} = {which[name]}" for name in other) for which in (other, wanted))
            raise Misfit(f"it was trained with {theirs}, and here it is {mine}")


def tensors_of(data: bytes) -> dict[str, Tensor]:
    """Read safetensors, by name. Raises ValueError where they are damaged."""
    try:
        return dict(safetensors.torch.load(data))
    except safetensors.SafetensorError as error:
        raise ValueError(f"the weights cannot be read: {error}") from error


def taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those under the prefix, out of `tensors`."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
