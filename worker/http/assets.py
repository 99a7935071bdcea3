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

    def index(self, encodings: str) -> Answer:
        """Return the page itself for a client that accepts these encodings; it names this version of other files."""
        page = gzip.decompress(self._files["index.html"]).replace(VERSION.encode(), self.version.encode())
        return _answer("index.html", gzip.compress(page, mtime=0), encodings, ASK_AGAIN)

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
    ranges = (one.replace(" ", "").lower().split(";") for one in accept.split(","))
    return any(kind == "text/html" and not _refused(parameters) for kind, *parameters in ranges)


def _compressed(path: Path) -> bytes:
    data = path.read_bytes()
    return data if path.suffix == ".gz" else gzip.compress(data, mtime=0)


def _refused(parameters: list[str]) -> bool:
    """Whether a weight among parameters is 0, which says that the client does not accept it."""
    return any(one.startswith("q=") and not one[2:].strip("0.") for one in parameters)


def _answer(name: str, packed: bytes, encodings: str, caching: str) -> Answer:
    headers = [("Cache-Control", caching), ("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer")]
    headers.append(("Vary", "Accept, Accept-Encoding" if name == "index.html" else "Accept-Encoding"))
    ranges = (one.replace(" ", "").lower().split(";") for one in encodings.split(","))
    if any(coding == "gzip" and not _refused(parameters) for coding, *parameters in ranges):
        headers.append(("Content-Encoding", "gzip"))
    else:
        packed = gzip.decompress(packed)
    return Answer(200, TYPES[Path(name).suffix], packed, tuple(headers))
