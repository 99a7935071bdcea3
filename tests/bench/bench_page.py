"""What the live page costs: `--clients` that ask for what it asks for, as often as it asks, beside none.

One worker drains `--events` again and again: with no client; with clients of another process, which answers at once
with as many bytes; with clients that all look at one stream; and with clients that look at one each (A B C D A B C D
...). The second variant shows what clients on the same machine take from a worker that they do not ask. The worker is
held (SIGSTOP) while the events are produced, and let go together with the clients. The thread that answers is found by
asking much of an idle worker; its CPU is what the kernel accounts to it, so Linux only. "refused" is the share of
answers that were 503: ask later.
"""

import argparse
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Thread

from report import Report, options
from stand import Stand, Subject, add_options, stand, variants

SPREAD_S = 1.0
# What the page asks for, and how many seconds after an answer it asks again; {} is the stream that was chosen
ASKED = {
    "/api/status": 0.9,
    "/api/streams/{}?horizon=1": 0.8,
    "/api/streams?sort=worst&limit=50": 3.9,
    "/api/history": 8.5,  # a sample comes every ten seconds
}
LIMIT_S = 10.0


class Client(Thread):
    """A page that is open: asks until it is told to stop."""

    def __init__(self, port: int, stream: str, first_s: float) -> None:
        super().__init__(daemon=True)
        self.answers: Counter[int] = Counter()  # by status, 0 where there was none
        self.longest_s = 0.0
        self._connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        self._stream, self._first_s = stream, first_s
        self.stop_asked = Event()

    def run(self) -> None:
        due = dict.fromkeys(ASKED, time.monotonic() + self._first_s)
        while not self.stop_asked.wait(max(0.0, min(due.values()) - time.monotonic())):
            path = min(due, key=lambda path: due[path])
            self._ask(path.format(self._stream))
            due[path] = time.monotonic() + ASKED[path]
        self._connection.close()

    def _ask(self, path: str) -> None:
        began = time.monotonic()
        try:
            self.answers[self._status(path)] += 1
        except (OSError, HTTPException):
            self._connection.close()
            self.answers[0] += 1
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _status(self, path: str) -> int:
        """Ask on the connection that is open, and as browsers do on another one where that was closed meanwhile."""
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
        except (RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
        answer.read()
        return answer.status


def answer_at_once(sizes: dict[str, int], port: Connection) -> None:
    """Answer each of these paths with so many bytes, on a port that is sent first, until the process is ended."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write an answer

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(sizes[self.path]))
            self.end_headers()
            self.wfile.write(bytes(sizes[self.path]))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        port.send(server.server_port)
        server.serve_forever()


@contextmanager
def elsewhere(subject: Subject, stream: str) -> Iterator[int]:
    """The port of another process, whose answers are as large as the worker's."""
    sizes = {path.format(stream): len(subject.worker.page(path.format(stream))) for path in ASKED}
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=answer_at_once, args=(sizes, theirs), daemon=True)
    process.start()
    yield ours.recv()
    process.terminate()
    process.join()


@contextmanager
def watching(port: int, streams: list[str]) -> Iterator[list[Client]]:
    """Clients that look at these streams, their turns spread over the second."""
    clients = [Client(port, stream, SPREAD_S * i / len(streams)) for i, stream in enumerate(streams)]
    for client in clients:
        client.start()
    yield clients
    for client in clients:
        client.stop_asked.set()
    for client in clients:
        client.join()


def threads_cpu_s(pid: int) -> dict[int, float]:
    """Seconds of CPU by thread."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def answering_thread(subject: Subject) -> int:
    """Which thread of an idle worker answers: the one, main aside, that many questions cost most."""
    pid = subject.worker.pid
    before = threads_cpu_s(pid)
    for _ in range(100):
        subject.worker.page("/metrics")
    after = threads_cpu_s(pid)
    cost = {thread: used - before.get(thread, 0.0) for thread, used in after.items() if thread != pid}
    return max(cost, key=lambda thread: cost[thread])


def drain(
    subject: Subject, count: int, thread: int, streams: list[str] | None = None, port: int | None = None
) -> dict[str, float]:
    """Figures of one drain while clients look at these streams, of the worker or of whoever listens on `port`."""
    streams = streams or []
    pid = subject.worker.pid
    subject.worker.tell(signal.SIGSTOP)
    subject.feed(count)
    before, answering = subject.account(0), threads_cpu_s(pid)[thread]
    subject.worker.tell(signal.SIGCONT)
    with watching(port or subject.worker.life.port, streams) if streams else nullcontext([]) as clients:
        subject.wait_until_committed()
        used, answering = subject.account(0).since(before), threads_cpu_s(pid)[thread] - answering
    figures = {
        "events/s": count / used.seconds,
        "CPU us/event": used.cpu_s / count * 1e6,
        "% of a core, answering": 100 * answering / used.seconds,
    }
    if clients:
        answers = sum((client.answers for client in clients), Counter[int]())
        figures["answers/s"] = answers.total() / used.seconds
        figures["CPU ms/answer"] = 1000 * answering / max(answers.total(), 1)
        figures["% refused"] = 100 * answers[503] / max(answers.total(), 1)
        figures["% failed"] = 100 * (1 - (answers[200] + answers[503]) / max(answers.total(), 1))
        figures["longest answer s"] = max(client.longest_s for client in clients)
    return figures


def measure(on: Stand, given: argparse.Namespace, report: Report) -> None:
    names = [f"sensor-{s:06}" for s in range(given.clients)]
    for variant, tables in variants(given.variant).items():
        with on.worker(tables) as subject:
            subject.warm(given.warm)
            thread = answering_thread(subject)
            one = names[:1] * given.clients
            with elsewhere(subject, names[0]) as port:
                for _ in range(given.runs):
                    for watched, how in {
                        "no client": {},
                        "clients of another": {"streams": one, "port": port},
                        "one stream": {"streams": one},
                        "one each": {"streams": names},
                    }.items():
                        report.add(f"{variant}, {watched}", drain(subject, given.events, thread, **how))


def main() -> None:
    parser = options(__doc__, runs=5)
    add_options(parser, streams=2000, partitions=8, warm=60)
    parser.add_argument("--clients", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--events", type=int, default=100_000, help="of one drain (%(default)s)")
    given = parser.parse_args()
    report = Report(
        f"{given.clients} pages open: drains of {given.events:,} events, {given.streams:,} streams, "
        f"{given.partitions} partitions, one worker"
    )
    with stand(given.streams, given.partitions) as on:
        measure(on, given, report)
    report.show(given.json)


if __name__ == "__main__":
    main()
