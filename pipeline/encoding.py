"""Numbers as JSON has them, those of a batch at once: nine significant digits, in the form that orjson gives them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Floats, Ints
from pipeline.compiled import kernel

DIGITS = 9  # significant, whatever the size of the number
LEAST = -5  # power of ten from which on a number is written without an exponent
TENS = np.array([float(f"1e{power}") for power in range(LEAST, 16)])  # numbers below the last have no exponent either
LONGEST = 20  # bytes of a number

Bytes = npt.NDArray[np.uint8]


@kernel
def write(
    numbers: Floats,  # (n, K)
    texts: Bytes,  # what stands before each number of an event and after the last, one after the other
    cuts: Ints,  # (K + 2,) where each of them begins and the last one ends
    tens: Floats,  # TENS
    out: Bytes,  # out
    ends: Ints,  # (n,) out: where each event's text ends; below 0: there is a number that is not written here
) -> None:
    """Write the numbers of each event between the texts."""
    digits = np.empty(DIGITS, np.uint8)
    ten = np.uint32(10)
    at = 0
    k = -LEAST  # of the power of ten that the number before had; neighbours are alike
    for e in range(len(numbers)):
        known = True
        for c in range(numbers.shape[1]):
            text = texts[cuts[c] : cuts[c + 1]]
            out[at : at + len(text)] = text
            at += len(text)
            size = abs(numbers[e, c])
            if size == 0.0:
                k = -LEAST
            elif tens[0] <= size < tens[-1]:
                while size >= tens[k + 1]:
                    k += 1
                while size < tens[k]:
                    k -= 1
            else:
                known = False
                break
            places = DIGITS - 1 - LEAST - k  # after the point
            scale = tens[abs(places) - LEAST]
            whole = np.uint32(np.rint(size * scale if places >= 0 else size / scale))
            before = DIGITS - places  # digits before the point, if there are any
            if whole == np.uint32(10**DIGITS):
                whole //= ten
                before += 1
            for i in range(DIGITS - 1, -1, -1):
                digits[i] = 48 + whole % ten
                whole //= ten
            last = DIGITS
            while last > 1 and digits[last - 1] == 48:
                last -= 1
            out[at] = 45
            at += np.signbit(numbers[e, c])
            for i in range(min(before - 1, 0), max(last, before + 1)):  # a zero where the point would have no digit
                if i == before:
                    out[at] = 46
                    at += 1
                out[at] = digits[i] if 0 <= i < last else 48
                at += 1
        text = texts[cuts[-2] :]
        out[at : at + len(text)] = text
        at += len(text)
        ends[e] = at if known else -at


def written(numbers: Floats, between: Sequence[bytes]) -> list[bytes | None]:
    """Return each row of numbers (n, K) between K + 1 pieces of text, None where one is not finite or far from 1."""
    cuts = np.cumsum([0, *map(len, between)])
    out = np.empty(len(numbers) * (cuts[-1] + LONGEST * numbers.shape[1]), np.uint8)
    ends = np.empty(len(numbers), np.int64)
    write(np.ascontiguousarray(numbers), np.frombuffer(b"".join(between), np.uint8), cuts, TENS, out, ends)
    at = [0, *np.abs(ends).tolist()]
    whole = out[: at[-1]].tobytes()
    return [whole[low:end] if end > low else None for low, end in zip(at, ends.tolist(), strict=False)]
