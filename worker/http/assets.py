"""The files of the page that a browser gets at /: read and compressed once, under addresses that change with them."""

import gzip
import hashlib
from pathlib import Path

from worker.http.answer import Answer, failure

FOLDER = Path(__file__).parent / "page"
FETCH = "python -m worker.demo.charts"  # brings the charts' library, which is not ours and not in the repository
VERSION = "VERSION"  # in index.html, where the version goes
PREFIX = "/page/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Nothing of another host, no script that stands in the page, no markup made of text
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
FOR_EVER, ASK_AGAIN = "max-age=31536000, immutable", "no-cache"


class Assets:
    """All files of the page, compressed in memory, by their names below /page/."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read the folder; a file that lies there compressed already, `NAME.gz`, is served as NAME."""
        self._files = {
            path.relative_to(folder).as_posix().removesuffix(".gz"): _compressed(path)
            for path in sorted(folder.rglob("*"))
            if Path(path.name.removesuffix(".gz")).suffix in TYPES
        }
        self.version = hashlib.sha256(repr(self._files).encode()).hexdigest()[:12]
        page = gzip.decompress(self._files.pop("index.html")).replace(VERSION.encode(), self.version.encode())
        self._index = gzip.compress(page, mtime=0)

    def index(self, encodings: str) -> Answer:
        """Return the page itself for a client that accepts these encodings; it names this version of other files."""
        return _answer("index.html", self._index, encodings, ASK_AGAIN)

    def answer(self, path: str, encodings: str) -> Answer:
        """Return the file that a path below /page/ names, with its version in front or without."""
        asked = path.removeprefix(PREFIX)
        name = asked.removeprefix(f"{self.version}/")
        packed = self._files.get(name)
        if packed is None:
            return failure(path, 404, f"the page has no such file; where its charts are missing, run {FETCH}")
        return _answer(name, packed, encodings, ASK_AGAIN if name == asked else FOR_EVER)


def wants_html(accept: str) -> bool:
    """Whether a client names HTML among what it accepts, as browsers do and programs do not."""
    return _named("text/html", accept)


def _compressed(path: Path) -> bytes:
    data = path.read_bytes()
    return data if path.suffix == ".gz" else gzip.compress(data, mtime=0)


def _named(wanted: str, header: str) -> bool:
    """Whether a header such as Accept names this, and not with the weight of 0 that refuses it."""
    ranges = (one.replace(" ", "").lower().split(";") for one in header.split(","))
    return any(name == wanted and not any(map(_is_zero, parameters)) for name, *parameters in ranges)


def _is_zero(parameter: str) -> bool:
    return parameter.startswith("q=") and not parameter[2:].strip("0.")


def _answer(name: str, packed: bytes, encodings: str, caching: str) -> Answer:
    headers = [("Cache-Control", caching), ("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer")]
    headers.append(("Vary", "Accept, Accept-Encoding" if name == "index.html" else "Accept-Encoding"))
    if _named("gzip", encodings):
        headers.append(("Content-Encoding", "gzip"))
    else:
        packed = gzip.decompress(packed)
    return Answer(200, TYPES[Path(name).suffix], packed, tuple(headers))
