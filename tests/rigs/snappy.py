"""Snappy in a few lines, for machines without python-snappy: it packs runs of one byte, and unpacks what it packs."""

COPY = 64  # bytes that one element repeats at most


def compress(plain: bytes) -> bytes:
    """Pack `plain`, byte after byte but for runs."""
    out, at = bytearray(_varint(len(plain))), 0
    while at < len(plain):
        out += bytes([0, plain[at]])  # one byte as it is
        run, at = len(plain[at:]) - len(plain[at:].lstrip(plain[at : at + 1])) - 1, at + 1
        at += run
        while run:
            out += bytes([min(run, COPY) - 1 << 2 | 2, 1, 0])  # the byte before, so often
            run -= min(run, COPY)
    return bytes(out)


def decompress(packed: bytes) -> bytes:
    """Unpack what `compress` has made."""
    out, at = bytearray(), 1
    while packed[at - 1] >= 0x80:
        at += 1
    while at < len(packed):
        if packed[at] & 3 == 0:
            out.append(packed[at + 1])
            at += 2
        else:
            out += out[-1:] * ((packed[at] >> 2) + 1)
            at += 3
    return bytes(out)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
