"""Which compressions of records this client can unpack here, and what to install where it cannot."""

from kafka import codec

# What kafka-python (3.0.12) asks for by itself; a batch in any other way of packing is of no Kafka
_LIBRARIES = {
    "snappy": (codec.has_snappy, "python-snappy"),
    "lz4": (codec.has_lz4, "lz4"),
    "zstd": (codec.has_zstd, "zstandard"),
}


def missing_library(text: str) -> str | None:
    """The Python package that is missing to unpack what `text` names: a `compression.type`, or the client's error."""
    names = (package for name, (there, package) in _LIBRARIES.items() if name in text and not there())
    return next(names, None)
