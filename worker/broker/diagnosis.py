"""Why no connection came about: files that cannot be used, TLS and log-ins that fail, each in its own sentence."""

import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from kafka.errors import (
    KafkaConnectionError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from worker.refusal import Refusal
from worker.settings.kafka import Kafka

CUT_OFF = 3  # connections that end without a word before the broker is asked what it speaks
PROBE_S = 5.0
ILLEGAL_SASL_STATE = 34  # what a listener without log-ins answers to one

LIBRARIES = {"GSSAPI": "gssapi", "AWS_MSK_IAM": "botocore"}

# OpenSSL's numbers for what is wrong with a certificate
NOT_YET_VALID, EXPIRED, UNKNOWN_SIGNERS, OTHER_NAMES = 9, 10, (2, 18, 19, 20, 21), (62, 64)


def check_here(kafka: Kafka) -> None:
    """See that files for TLS can be read and hold what they should, and what a log-in needs. Raises Refusal."""
    if (needed := LIBRARIES.get(kafka.sasl_mechanism or "")) is not None and find_spec(needed) is None:
        raise Refusal(
            f"kafka.sasl_mechanism {kafka.sasl_mechanism} needs the Python package {needed}, which is not here: "
            "install it, or set another mechanism"
        )
    for setting in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        if (path := getattr(kafka, setting)) is not None:
            _check_readable(setting, path)
    for setting in ("ssl_cafile", "ssl_certfile"):
        if (path := getattr(kafka, setting)) is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except ssl.SSLError as error:
                raise Refusal(
                    f"kafka.{setting} holds no certificate: {path} ({error.reason}); name a PEM file"
                ) from error
    if kafka.ssl_certfile is not None:
        _check_key(kafka, kafka.ssl_certfile)


def _check_readable(setting: str, path: str) -> None:
    try:
        with open(path, "rb"):  # noqa: PTH123 - as the ssl module opens it
            pass
    except OSError as error:
        raise Refusal(
            f"kafka.{setting} cannot be read: {path}: {error.strerror}; correct the path, or the file's permissions"
        ) from error


def _check_key(kafka: Kafka, certificate: str) -> None:
    asked: list[bool] = []

    def password() -> str:
        # Without one OpenSSL would ask at the terminal
        asked.append(True)
        return "" if kafka.ssl_password is None else kafka.ssl_password.get_secret_value()

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, kafka.ssl_keyfile, password)
    except ssl.SSLError as error:
        setting = "ssl_certfile" if kafka.ssl_keyfile is None else "ssl_keyfile"
        key = f"{kafka.ssl_keyfile or certificate}"
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"kafka.{setting} holds the key of another certificate: {key}; name the one of {certificate}"
        elif asked and kafka.ssl_password is None:
            why = f"kafka.ssl_password is not set, and the key in {key} needs it: set it"
        elif asked:
            why = f"kafka.ssl_password does not open the key in {key}: correct it"
        else:
            why = f"kafka.{setting} holds no key: {key} ({error.reason or 'no PEM'}); name a PEM file with one"
        raise Refusal(why) from None  # the cause may quote what it read


class Attempts:
    """A client's connections that failed, by node; ends a bootstrap of which every server has refused for good.

    kafka-python 3.0.12 only logs why a connection failed, and tries until its time is over.
    """

    def __init__(self, manager: Any, kafka: Kafka) -> None:
        self._manager, self._kafka = manager, kafka
        self._failed: dict[object, BaseException] = {}
        self._cut_off: Counter[object] = Counter()
        self._connect, self._build = manager._connect, manager._build_transport
        self._bootstrapping = True
        manager._connect, manager._build_transport = self._watched, self._whole

    async def _watched(self, node: Any, connection: Any, **options: object) -> None:
        connection.init_future.add_callback(lambda _: self._failed.pop(node.node_id, None))
        connection.close_future.add_errback(lambda error: self._note(node.node_id, error))
        await self._connect(node, connection, **options)

    async def _whole(self, node: Any, **options: object) -> Any:
        transport = await self._build(node, **options)
        receive = transport._sock_recv

        def received() -> tuple[bytes, Exception | None]:
            # Where an answer and the end of the connection come together, the answer is thrown away (kafka-python
            # 3.0.12): most answers to a wrong password. The end is read again the next time.
            data, error = receive()
            return data, None if data else error

        transport._sock_recv = received
        return transport

    def _note(self, node: object, error: BaseException) -> None:
        if not self._bootstrapping:
            return
        self._failed[node] = error
        self._cut_off[node] += _is_cut_off(error)
        if all(self._for_good(server.node_id) for server in self._servers()):
            self._manager.close()

    def over(self) -> None:
        """Look no further: the client has found its cluster. Errors would keep their sockets."""
        self._bootstrapping = False
        self._failed.clear()

    def _servers(self) -> list[Any]:
        return list(self._manager.cluster.bootstrap_brokers())

    def _for_good(self, node: object) -> bool:
        error = self._failed.get(node)
        return error is not None and (self._cut_off[node] >= CUT_OFF or why(error, "", self._kafka) is not None)

    def explain(self) -> str:
        """Why the bootstrap failed, in words, where that may pass. Raises Refusal where no server will ever do."""
        reasons, last = [], ""
        for server in self._servers():
            address = f"{server.host}:{server.port}"
            if (error := self._failed.get(server.node_id)) is None:
                continue
            last = f"{address}: {_in_words(error)}"
            if reason := why(error, address, self._kafka) or self._mistaken(error, server.host, server.port):
                reasons.append(reason)
        if reasons and len(reasons) == len(self._servers()):
            raise Refusal(reasons[0])
        return reasons[0] if reasons else last

    def _mistaken(self, error: BaseException, host: str, port: int) -> str | None:
        if not _is_cut_off(error):
            return None
        kafka, spoken = self._kafka, spoken_by(host, port)
        if spoken is None or kafka.security_protocol in spoken:
            return None
        return (
            f"kafka.security_protocol is {kafka.security_protocol}, and {host}:{port} speaks {' or '.join(spoken)}: "
            "set that, or name another port in kafka.bootstrap_servers"
        )


def why(error: BaseException, address: str, kafka: Kafka) -> str | None:
    """What is wrong and the fix, in a sentence, where trying again would not help; None where it might."""
    for one in errors_in(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return _of_certificate(one, address, kafka)
        if isinstance(one, ssl.SSLError) and re.search("ALERT.*(CERTIFICATE|UNKNOWN_CA)", one.reason or ""):
            if kafka.ssl_certfile is None:
                return f"kafka.ssl_certfile is not set, and {address} asks for the worker's certificate: set it"
            return (
                f"kafka.ssl_certfile {kafka.ssl_certfile} is refused by {address} ({_in_words(one)}): "
                "use a certificate that the brokers trust"
            )
        if isinstance(one, SaslAuthenticationFailedError):
            return (
                f"kafka.sasl_username {kafka.sasl_username} is not let in by {address} with this kafka.sasl_password "
                f"and {kafka.sasl_mechanism}: correct them, or have the user made on the brokers"
            )
        if isinstance(one, UnsupportedSaslMechanismError):
            return f"kafka.sasl_mechanism {kafka.sasl_mechanism} is not offered by {address}: set one that is"
    return None


def _of_certificate(error: ssl.SSLCertVerificationError, address: str, kafka: Kafka) -> str:
    code, message = error.verify_code, error.verify_message.rstrip(".")
    if code in (NOT_YET_VALID, EXPIRED):
        state = "has expired" if code == EXPIRED else "is not valid yet"
        return f"the certificate of {address} {state}: renew it on the broker, or set this machine's clock"
    if code in OTHER_NAMES:
        return (
            f"the certificate of {address} does not hold the name that it was reached by ({message}): use one that it "
            "holds in kafka.bootstrap_servers and in the brokers' advertised.listeners, or have one made for this name"
        )
    if code in UNKNOWN_SIGNERS and kafka.ssl_cafile is None:
        return (
            f"kafka.ssl_cafile is not set, and this system does not trust who signed the certificate of {address} "
            f"({message}): name a PEM file with the signer's certificate"
        )
    if code in UNKNOWN_SIGNERS:
        return (
            f"kafka.ssl_cafile {kafka.ssl_cafile} does not hold who signed the certificate of {address} ({message}): "
            "put the signer's certificate there"
        )
    return f"the certificate of {address} cannot be trusted ({message}): replace it on the broker"


def spoken_by(host: str, port: int) -> tuple[str, ...] | None:
    """The values of kafka.security_protocol that this listener may be meant for; None where it does not tell."""
    with suppress(OSError), socket.create_connection((host, port), PROBE_S) as plain:
        if (logs_in := _logs_in(plain)) is not None:
            return ("SASL_PLAINTEXT",) if logs_in else ("PLAINTEXT",)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing of ours is sent
    with suppress(OSError), socket.create_connection((host, port), PROBE_S) as below, context.wrap_socket(below) as tls:
        with suppress(OSError):
            if (logs_in := _logs_in(tls)) is not None:
                return ("SASL_SSL",) if logs_in else ("SSL",)
        return "SSL", "SASL_SSL"
    return None


def _logs_in(connection: socket.socket) -> bool | None:
    """Ask to log in by a mechanism that there is not, and see what is wrong with that; None for no Kafka."""
    asked = struct.pack(">hhihh", 17, 1, 0, -1, 1) + b"?"  # SaslHandshake, version 1
    connection.sendall(struct.pack(">i", len(asked)) + asked)
    answer = connection.recv(10)
    if len(answer) < 10 or answer[4:8] != bytes(4):
        return None
    return int.from_bytes(answer[8:10], "big") != ILLEGAL_SASL_STATE


def _is_cut_off(error: BaseException) -> bool:
    """Whether the connection was made, and then ended by the other side without a word, or with a strange one."""
    every = list(errors_in(error))
    silent = not isinstance(error, KafkaConnectionError) or "socket disconnected" in str(error)
    timed_out = any(isinstance(one, TimeoutError) or "imed out" in str(one) for one in every)
    return not timed_out and (silent or any(isinstance(one, OSError) for one in every))


def _in_words(error: BaseException) -> str:
    """The error without the place in OpenSSL's source."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error).partition(" (_ssl.c")[0] or type(error).__name__


def errors_in(error: BaseException | None) -> Iterator[BaseException]:
    """The error, those it holds and those that it came from."""
    if error is None:
        return
    yield error
    yield from (arg for arg in error.args if isinstance(arg, BaseException))
    yield from errors_in(error.__cause__ or error.__context__)
