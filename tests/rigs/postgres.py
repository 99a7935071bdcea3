"""A real PostgreSQL of a test's own, from the programs on this machine; asked through psql."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

LIMIT_S = 120.0
WHAT_TO_INSTALL = "no PostgreSQL can be started here: install the package postgresql"
USER = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, the newest there is; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).resolve().parent if named else None


class Postgres:
    """A server with one empty database, on a loopback port and a socket in its own folder; gone after `stop`."""

    def __init__(self, bin_folder: Path, port: int) -> None:
        self.port = port
        self._bin, self._home = bin_folder, Path(tempfile.mkdtemp(prefix="foldcast-postgres-"))
        home = self._home
        if USER is not None:
            shutil.chown(home, USER)
        trust = ["--auth=trust", "--username=foldcast", "--no-sync", "--encoding=UTF8"]
        self._run([bin_folder / "initdb", "-D", home / "data", *trust])
        options = ["-p", str(port), "-k", str(home), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        options += ["-c", "timezone=America/New_York"]  # whoever forgets the zone is seen
        with (home / "log").open("w") as log:
            self._server = subprocess.Popen(
                [bin_folder / "postgres", "-D", home / "data", *options], stdout=log, stderr=log, user=USER
            )
        deadline = time.monotonic() + LIMIT_S
        while subprocess.run([bin_folder / "pg_isready", "-q", "-h", home, "-p", str(port)], check=False).returncode:
            assert self._server.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.2)

    def _run(self, command: list[str | Path], text: str = "") -> str:
        done = subprocess.run(command, input=text, capture_output=True, text=True, user=USER, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, sql: str, **variables: str) -> list[list[str]]:
        """Run statements in one transaction, with psql's variables; return the answer's rows as texts (null: empty)."""
        connection = ["-h", str(self._home), "-p", str(self.port), "-U", "foldcast", "-d", "postgres"]
        quiet = ["-X", "-q", "-A", "-t", "-F", "\t", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        quiet += [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
        return [line.split("\t") for line in self._run([self._bin / "psql", *connection, *quiet], sql).splitlines()]

    def stop(self) -> None:
        """End the server at once and remove its data."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(LIMIT_S)
        shutil.rmtree(self._home, ignore_errors=True)
