"""Exit code 0 where this container's worker answers that its loop turns; started every few seconds, so kept light.

Knows two settings, `http.host` and `http.port`, from the environment or the file that FOLDCAST_CONFIG names.
"""

import os
import sys
import tomllib
from http.client import HTTPConnection, HTTPException
from pathlib import Path

LIMIT_S = 3.0
ANY = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on


def main() -> int:
    """Ask /livez and print its answer. Returns the exit code."""
    try:
        host, port = _address()
        connection = HTTPConnection("127.0.0.1" if host in ANY else host, port, timeout=LIMIT_S)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, HTTPException) as error:
        print(f"no address to ask: {error!r}")
        return 1
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        print(answer.read().decode().strip())
    except (OSError, HTTPException, ValueError, OverflowError) as error:  # ValueError: a host that no name can be
        print(f"no answer on port {port}: {error}")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


def _address() -> tuple[str, int]:
    config = os.environ.get("FOLDCAST_CONFIG")
    http = tomllib.loads(Path(config).read_text(encoding="utf-8")).get("http", {}) if config else {}
    host = os.environ.get("FOLDCAST_HTTP__HOST") or http.get("host", "")
    return str(host), int(os.environ.get("FOLDCAST_HTTP__PORT") or http.get("port", 8080))


if __name__ == "__main__":
    sys.exit(main())
