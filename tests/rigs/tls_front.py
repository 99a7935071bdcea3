"""TLS in front of a server that speaks none: whoever connects shakes hands here, and bytes go on to another port."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

LIMIT_S = 60.0
PIECE = 1 << 16


@contextmanager
def tls_front(files: Path, certificate: str, target: int, clients_signed_by: str | None = None) -> Iterator[int]:
    """The port of a front with a certificate of `make_certificates`; with the last argument it wants the client's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / f"{certificate}.both.pem")
    if clients_signed_by is not None:
        context.load_verify_locations(files / f"{clients_signed_by}.pem")
        context.verify_mode = ssl.CERT_REQUIRED

    class Front(BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            client.settimeout(LIMIT_S)
            tls = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
            with tls, suppress(OSError), socket.create_connection(("127.0.0.1", target), LIMIT_S) as server:
                try:
                    tls.do_handshake()
                except ssl.SSLError:  # the alert is sent; what the client has sent meanwhile is read, not reset
                    with socket.socket(fileno=tls.detach()) as raw:
                        raw.settimeout(LIMIT_S)
                        raw.shutdown(socket.SHUT_WR)
                        while raw.recv(PIECE):
                            pass
                    return
                back = Thread(target=_pass_on, args=(server, tls))
                back.start()
                _pass_on(tls, server)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Front) as front:
        front.daemon_threads = False  # closing waits for them
        thread = Thread(target=front.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield front.server_address[1]
        finally:
            front.shutdown()
            thread.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until it ends, and then the end."""
    with suppress(OSError):
        while piece := source.recv(PIECE):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR if not isinstance(sink, ssl.SSLSocket) else socket.SHUT_RDWR)
