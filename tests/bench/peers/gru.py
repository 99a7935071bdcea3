"""The forecaster that every peer runs: a GRU of 64, one event at a time; 24 horizons, 3 quantiles, fixed weights.

The fields are those of foldcast's forecasts, without `expected`, which would need a state of its own. Weights are not
trained: what they are does not change what they cost. Torch is the one of foldcast's virtual environment.
"""

import os
import sys

import numpy as np
import orjson

sys.path.append(os.environ["TORCH_PATH"])  # behind the peers' own packages
import torch
from torch import Tensor, nn

HIDDEN, STEP_MS = 64, 60_000
HORIZONS = np.arange(1, 25)
BOOTSTRAP = os.environ["FOLDCAST_KAFKA__BOOTSTRAP_SERVERS"]
INPUT = os.environ["FOLDCAST_KAFKA__INPUT_TOPIC"]
OUTPUT = os.environ["FOLDCAST_KAFKA__OUTPUT_TOPIC"]
GROUP = os.environ["FOLDCAST_KAFKA__GROUP_ID"]
SESSION_S = int(os.environ["FOLDCAST_KAFKA__SESSION_TIMEOUT_S"])
COMMIT_S = float(sys.argv[-1])  # how often to commit, for peers that commit by the clock
ZERO = torch.zeros(1, HIDDEN)

torch.set_num_threads(1)
torch.manual_seed(1)
torch.set_grad_enabled(False)
cell, head = nn.GRUCell(3, HIDDEN), nn.Linear(HIDDEN, 3 * len(HORIZONS))


def forecast(event: bytes, hidden: Tensor, record_id: str) -> tuple[bytes, Tensor]:
    """The forecast as JSON, and the next hidden state."""
    read = orjson.loads(event)
    value, time_ms = read["value"], read["time"]
    day = time_ms % 86_400_000 / 86_400_000
    hidden = cell(torch.tensor([[value / 100, day, day * day]]), hidden)
    low, middle, high = np.round(value + head(hidden).numpy().reshape(3, -1).astype(float), 5)
    body = {
        "id": record_id,
        "stream": read["stream"],
        "time": time_ms,
        "value": value,
        "horizons": HORIZONS,
        "times": time_ms + STEP_MS * HORIZONS,
        "mean": middle,
        "quantiles": {"0.1": low, "0.5": middle, "0.9": high},
        "expected": None,
        "model": "gru",
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), hidden


def packed(hidden: Tensor) -> bytes:
    """As a state store keeps it."""
    return hidden.numpy().tobytes()


def unpacked(kept: bytes | None) -> Tensor:
    """A stream without a state begins at zero."""
    return ZERO if kept is None else torch.frombuffer(bytearray(kept), dtype=torch.float32).view(1, HIDDEN)
