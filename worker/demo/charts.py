"""`python -m worker.demo.charts`: the library that the page at / draws with, fetched with pip and put beside the page.

It is uPlot 1.6.31 (MIT), the very bytes of its own release, out of a wheel that carries it; pinned by hash. A worker
that has started before it was there has to be started again.
"""

import gzip
import hashlib
import sys
import tempfile
from pathlib import Path

from worker.demo.packages import Package

FOLDER = Path(__file__).resolve().parents[1] / "http" / "page" / "library"
FILE = "uPlot.js.gz"

_PACKAGE = Package("youplot==1.0.0", "31fe55753a3a073ba1bf2979708443d87d11bb9e0250a0c1ab23118e1e70fb94")
_MEMBER = "youplot/vendor/uplot.iife.min.js"
SHA256 = "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2"  # of the member


def fetch(folder: Path = FOLDER) -> Path:
    """Return the compressed library, fetched where it is not this one. Raises OSError, RuntimeError when pip cannot."""
    kept = folder / FILE
    if not (kept.exists() and hashlib.sha256(gzip.decompress(kept.read_bytes())).hexdigest() == SHA256):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            unfinished = Path(cache) / FILE
            unfinished.write_bytes(gzip.compress(_PACKAGE.file(_MEMBER, Path(cache)).read_bytes(), mtime=0))
            unfinished.replace(kept)
    return kept


def main() -> int:
    """Fetch the library. Returns the exit code."""
    try:
        print(f"the page's charts are drawn with {fetch()}")
    except (OSError, RuntimeError) as error:
        print(f"charts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
