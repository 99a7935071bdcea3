"""TLS, log-ins and ACLs on a real broker: what is right works, and each mistake has a sentence of its own, at once."""

import gc
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs import documented
from tests.rigs.kafka_connect import can_run
from tests.rigs.secured_kafka import (
    APP,
    APP_PASSWORD,
    KEY_PASSWORD,
    LISTENERS,
    ROOT_PASSWORD,
    SECRETS,
    WRONG_PASSWORD,
    SecuredKafka,
    secured_kafka,
)
from worker import topics
from worker.broker.admin import remove_member
from worker.broker.contract import BrokerError, Message
from worker.broker.kafka import KafkaBroker
from worker.broker.produce import FastProducer
from worker.check import findings
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL
from worker.refusal import Refusal
from worker.settings.settings import Settings
from worker.settings.sources import load
from worker.settings.worker import Worker
from worker.takeover import predecessor_of

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL),
    # kafka-python 3.0.12 leaves the socket of a connection that failed to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
]

OPERATIONS = {"Read": "READ", "Write": "WRITE", "DescribeConfigs": "DESCRIBE_CONFIGS"}
LIMIT_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    secured = secured_kafka(tmp_path_factory.mktemp("tls"))
    yield secured
    secured.kafka.stop()


@pytest.fixture(autouse=True)
def _no_sockets_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("CRITICAL", "kafka")  # else the log keeps the client's errors, and they the sockets
    yield
    gc.collect()  # here, where the warning is expected


def named(unique: str, kafka: dict[str, object]) -> Settings:
    own = {"input_topic": f"{unique}-in", "output_topic": f"{unique}-out", "group_id": unique, "instance_id": "w0"}
    return load(None, {}, kafka={**own, **kafka}, output={"rows_topic": f"{unique}-rows"})


def work(settings: Settings) -> None:
    """What a worker does to its cluster: check, join, read from its topics, and commit to all but the input."""
    names = topics.names_of(settings)
    _, sizes = topics.check(settings)
    broker = KafkaBroker(settings.kafka, Worker(commit_timeout_s=4), sizes.request)
    try:
        deadline, started, got = time.monotonic() + LIMIT_S, False, False
        while not got:
            assert time.monotonic() < deadline, "no record"
            polled = broker.poll(0.1)
            if polled.began:
                broker.committed(0)
                for topic in (names.changelog, names.output, names.dead_letters):
                    log = broker.open_end(topic, 0, 64)
                    while not log.done:
                        log.read(0.5)
                broker.start(0, broker.bounds(0)[0])
                started = True
            got = started and bool(polled.records)
        sent = [Message(topic, 0, b"k", b"v") for topic in names.names[1:]]
        broker.commit(sent, {0: polled.records[0].offsets[-1] + 1}, polled.membership)
    finally:
        broker.close(leave=False)


def fed(settings: Settings, records: int = 1) -> None:
    with FastProducer(settings.kafka) as producer:
        for _ in range(records):
            producer.send(settings.kafka.input_topic, 0, b"k", b"v")
        producer.flush()


CLIENT = {"ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
NO_LOG_IN = {"sasl_mechanism": None, "sasl_username": None, "sasl_password": None}
RIGHT = [
    ("LOGIN", {}),
    ("LOGIN", {"sasl_mechanism": "PLAIN"}),
    ("CLEARLOGIN", {}),
    ("TLS", {}),
    ("MUTUAL", CLIENT),
    ("MUTUAL", {"ssl_certfile": "client.both.pem"}),
    ("MUTUAL", {**CLIENT, "ssl_keyfile": "client.locked.key", "ssl_password": KEY_PASSWORD}),
]


def given(secured: SecuredKafka, listener: str, said: dict[str, object]) -> dict[str, object]:
    """Settings of a listener, changed by these; files get their folder, ports of other listeners their address."""
    filled = {name: _filled(secured, name, value) for name, value in said.items()}
    return secured.settings(listener, **filled)


def _filled(secured: SecuredKafka, name: str, value: object) -> object:
    if name.endswith("file") and isinstance(value, str) and not value.startswith("/"):
        return secured.file(value)
    if name == "bootstrap_servers" and value in LISTENERS:
        return secured.kafka.listeners[str(value)]
    return value


@pytest.mark.parametrize(("listener", "said"), RIGHT)
def test_right_settings_make_topics_and_commit(
    secured: SecuredKafka, unique: str, listener: str, said: dict[str, object]
) -> None:
    settings = named(unique, given(secured, listener, said))
    topics.create(settings, 1, 1)
    fed(settings)
    work(settings)


HERE = r"127\.0\.0\.1:\d+"
MISTAKES = {
    "wrong password, SCRAM": (
        "LOGIN",
        {"sasl_password": WRONG_PASSWORD},
        f"kafka.sasl_username root is not let in by {HERE} with this kafka.sasl_password and SCRAM-SHA-512: correct "
        "them, or have the user made on the brokers",
    ),
    "wrong password, PLAIN": (
        "LOGIN",
        {"sasl_mechanism": "PLAIN", "sasl_password": WRONG_PASSWORD},
        f"kafka.sasl_username root is not let in by {HERE} with this kafka.sasl_password and PLAIN: correct .*",
    ),
    "wrong password, no TLS": (
        "CLEARLOGIN",
        {"sasl_password": WRONG_PASSWORD},
        f"kafka.sasl_username root is not let in by {HERE} .*",
    ),
    "unknown user": (
        "LOGIN",
        {"sasl_username": "nobody"},
        f"kafka.sasl_username nobody is not let in by {HERE} .*",
    ),
    "mechanism not offered": (
        "LOGIN",
        {"sasl_mechanism": "SCRAM-SHA-256"},
        f"kafka.sasl_mechanism SCRAM-SHA-256 is not offered by {HERE}: set one that is",
    ),
    "mechanism without its library": (
        "LOGIN",
        {**NO_LOG_IN, "sasl_mechanism": "AWS_MSK_IAM"},
        "kafka.sasl_mechanism AWS_MSK_IAM needs the Python package botocore, .*: install it, or set another mechanism",
    ),
    "wrong CA": (
        "TLS",
        {"ssl_cafile": "other.pem"},
        rf"kafka.ssl_cafile .*other.pem does not hold who signed the certificate of {HERE} \(unable to get local "
        r"issuer certificate\): put the signer's certificate there",
    ),
    "no CA": (
        "TLS",
        {"ssl_cafile": None},
        f"kafka.ssl_cafile is not set, and this system does not trust who signed the certificate of {HERE} .*: name .*",
    ),
    "wrong host name": (
        "OTHERNAME",
        {},
        rf"the certificate of {HERE} does not hold the name that it was reached by \(IP address mismatch, .*\): use "
        "one that it holds in kafka.bootstrap_servers and in the brokers' advertised.listeners, or have one made for "
        "this name",
    ),
    "expired certificate": (
        "EXPIRED",
        {},
        f"the certificate of {HERE} has expired: renew it on the broker, or set this machine's clock",
    ),
    "PLAINTEXT to a TLS port": (
        "TLS",
        {"security_protocol": "PLAINTEXT", "ssl_cafile": None},
        f"kafka.security_protocol is PLAINTEXT, and {HERE} speaks SSL: set that, or name another port in "
        "kafka.bootstrap_servers",
    ),
    "PLAINTEXT to a port for client certificates": (
        "MUTUAL",
        {"security_protocol": "PLAINTEXT", "ssl_cafile": None},
        f"kafka.security_protocol is PLAINTEXT, and {HERE} speaks SSL or SASL_SSL: set that, .*",
    ),
    "TLS to a plaintext port": (
        "PLAINTEXT",
        {"security_protocol": "SSL", "ssl_cafile": "ca.pem"},
        f"kafka.security_protocol is SSL, and {HERE} speaks PLAINTEXT: set that, .*",
    ),
    "TLS without a log-in to a port with one": (
        "LOGIN",
        {**NO_LOG_IN, "security_protocol": "SSL"},
        f"kafka.security_protocol is SSL, and {HERE} speaks SASL_SSL: set that, .*",
    ),
    "a log-in to a port without one": (
        "LOGIN",
        {"bootstrap_servers": "TLS"},
        f"kafka.security_protocol is SASL_SSL, and {HERE} speaks SSL: set that, .*",
    ),
    "no client certificate": (
        "MUTUAL",
        {},
        f"kafka.ssl_certfile is not set, and {HERE} asks for the worker's certificate: set it",
    ),
    "client certificate of strangers": (
        "MUTUAL",
        {"ssl_certfile": "stranger.pem", "ssl_keyfile": "stranger.key"},
        rf"kafka.ssl_certfile .*stranger.pem is refused by {HERE} \(.*certificate unknown\): use a certificate that .*",
    ),
    "wrong key password": (
        "MUTUAL",
        {**CLIENT, "ssl_keyfile": "client.locked.key", "ssl_password": WRONG_PASSWORD},
        "kafka.ssl_password does not open the key in .*client.locked.key: correct it",
    ),
    "no key password": (
        "MUTUAL",
        {**CLIENT, "ssl_keyfile": "client.locked.key"},
        "kafka.ssl_password is not set, and the key in .*client.locked.key needs it: set it",
    ),
    "key of another certificate": (
        "MUTUAL",
        {**CLIENT, "ssl_keyfile": "stranger.key"},
        "kafka.ssl_keyfile holds the key of another certificate: .*stranger.key; name the one of .*client.pem",
    ),
    "no key": (
        "MUTUAL",
        {"ssl_certfile": "client.pem"},
        "kafka.ssl_certfile holds no key: .*client.pem .*; name a PEM file with one",
    ),
    "CA file that is not there": (
        "TLS",
        {"ssl_cafile": "/nowhere/ca.pem"},
        "kafka.ssl_cafile cannot be read: /nowhere/ca.pem: No such file or directory; correct the path, .*",
    ),
    "CA file that is a folder": ("TLS", {"ssl_cafile": "/"}, "kafka.ssl_cafile cannot be read: /: Is a directory; .*"),
    "CA file that is no PEM": (
        "TLS",
        {"ssl_cafile": "junk.pem"},
        "kafka.ssl_cafile holds no certificate: .*junk.pem .*; name a PEM file",
    ),
    "client certificate that is no PEM": (
        "MUTUAL",
        {"ssl_certfile": "junk.pem"},
        "kafka.ssl_certfile holds no certificate: .*junk.pem .*; name a PEM file",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_refused_at_once_in_a_sentence_of_its_own(
    secured: SecuredKafka, unique: str, mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener, said, sentence = MISTAKES[mistake]
    settings = named(unique, given(secured, listener, said))
    with pytest.raises(Refusal) as caught:  # where it is tried until the time is over, it is a BrokerError
        topics.check(settings)
    assert re.fullmatch(sentence, str(caught.value)), caught.value
    assert not [secret for secret in SECRETS if secret in str(caught.value) + caplog.text]


@pytest.mark.parametrize("command", [["run"], ["topics", "check"], ["topics", "create", "--partitions", "1"]])
def test_every_command_ends_at_once_with_code_1(secured: SecuredKafka, unique: str, command: list[str]) -> None:
    said = given(secured, "LOGIN", {"sasl_password": WRONG_PASSWORD})
    variables = {f"FOLDCAST_KAFKA__{name.upper()}": str(value) for name, value in said.items()}
    variables |= {"FOLDCAST_HTTP__PORT": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "worker", *command],
        env=os.environ | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("foldcast: kafka.sasl_username root is not let in by ")
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]


def test_nobody_there_may_pass_and_is_no_refusal(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.broker.security.BOOTSTRAP_TIMEOUT_MS", 500)
    for address, words in (("127.0.0.1:1", "ECONNREFUSED"), ("nowhere.invalid:9092", "DNS")):
        with pytest.raises(BrokerError, match=f"{address}: .*{words}") as caught:
            topics.check(named(unique, {"bootstrap_servers": address}))
        assert caught.value.fix.startswith("see that the broker answers (kafka.bootstrap_servers is ")


def test_a_broker_that_advertises_a_name_its_certificate_does_not_hold_is_no_riddle(
    secured: SecuredKafka, unique: str
) -> None:
    address = secured.kafka.listeners["ALIAS"].replace("127.0.0.1", "localhost")
    with pytest.raises(BrokerError) as caught:  # another broker may do
        topics.check(named(unique, secured.settings("ALIAS", bootstrap_servers=address)))
    assert "the certificate of a broker does not hold the name that it was reached by" in caught.value.fix
    assert "advertised.listeners" in caught.value.fix


def test_one_server_that_will_do_is_enough(secured: SecuredKafka, unique: str) -> None:
    settings = secured.settings("TLS")
    settings["bootstrap_servers"] = f"{secured.kafka.listeners['EXPIRED']},{settings['bootstrap_servers']}"
    topics.create(named(unique, settings), 1, 1)
    for _ in range(5):  # the client begins with either
        topics.check(named(unique, settings))


def least(settings: Settings) -> list[tuple[str, str, str]]:
    """The ACLs of docs/security.md: operation, kind of the resource, its name."""
    kafka, standard = settings.kafka, Settings().kafka
    names = {getattr(standard, name): getattr(kafka, name) for name in type(kafka).model_fields if "topic" in name}
    names["<output.rows_topic>"] = settings.output.rows_topic
    names |= {standard.group_id: kafka.group_id, f"{standard.group_id}/<instance_id>": f"{kafka.group_id}/w0"}
    rows = re.findall(r"^\| ([\w ]+) \| `(.+)` \| ([\w, ]+) \|$", (ROOT / "docs" / "security.md").read_text(), re.M)
    return [
        (OPERATIONS[what], kind.upper().replace(" ", "_"), names[name])
        for kind, name, operations in rows
        for what in operations.split(", ")
    ]


def test_without_any_one_of_the_least_acls_the_operation_and_the_resource_are_named(
    secured: SecuredKafka, unique: str
) -> None:
    admin = named(unique, given(secured, "LOGIN", {}))
    topics.create(admin, 1, 1)
    fed(admin, 3)
    settings = named(unique, given(secured, "LOGIN", {"sasl_username": APP, "sasl_password": APP_PASSWORD}))
    with pytest.raises(Refusal, match=rf"allow user app (Read|Write|Read and Write) on topic {unique}-[a-z-]+ "):
        topics.check(settings)
    rights = least(settings)
    secured.allow(*rights)
    work(settings)
    assert [finding for finding in findings(settings) if not finding.ok] == [], "it needs no more than a worker"
    assert len(rights) == 15
    words = {operation: word for word, operation in OPERATIONS.items()}
    for what, kind, name in rights:
        secured.withdraw(what, kind, name)
        fed(admin)
        with pytest.raises((Refusal, BrokerError)) as caught:
            work(settings)
        said = f"{caught.value}; {getattr(caught.value, 'fix', '')}"
        resource = f"{kind.lower().replace('_', ' ')} {name}"
        assert re.search(f"allow user app {words[what]} on {resource} ", said), said
        assert not [secret for secret in SECRETS if secret in said]
        found = " ".join(finding.says for finding in findings(settings) if not finding.ok)
        known = kind != "TRANSACTIONAL_ID"  # which shows when it is used alone
        assert (f"allow user app {words[what]} on {resource} " in found) == known, found
        secured.allow((what, kind, name))


def test_another_group_is_taken_over_with_the_rights_that_the_page_names(secured: SecuredKafka, unique: str) -> None:
    said = "needs Describe on the group `OLD`, and Read and DescribeConfigs on its topic of dead letters"
    assert said in (ROOT / "docs" / "security.md").read_text()
    same = {"input_topic": f"{unique}-in", "output_topic": f"{unique}-out"}
    old = named(unique, given(secured, "LOGIN", {}))
    topics.create(old, 1, 1)
    topics.create(named(f"{unique}-2", given(secured, "LOGIN", same)), 1, 1)
    fed(old)
    work(old)
    remove_member(old.kafka, unique, "w0")
    own = {"sasl_username": APP, "sasl_password": APP_PASSWORD}
    new = named(f"{unique}-2", given(secured, "LOGIN", {**same, **own}))
    secured.allow(*least(new))
    letters = f"{unique}-dead-letters"
    for what, kind, name in (
        ("DESCRIBE", "GROUP", unique),
        ("READ", "TOPIC", letters),
        ("DESCRIBE_CONFIGS", "TOPIC", letters),
    ):
        with pytest.raises((Refusal, BrokerError), match=name):
            predecessor_of(new, unique)
        secured.allow((what, kind, name))
    predecessor = predecessor_of(new, unique)
    assert predecessor is not None
    assert predecessor.topics.dead_letters == letters


def test_making_topics_names_what_it_lacks(secured: SecuredKafka, unique: str) -> None:
    settings = named(unique, given(secured, "LOGIN", {"sasl_username": APP, "sasl_password": APP_PASSWORD}))
    names = [name for what, kind, name in least(settings) if what == "DESCRIBE_CONFIGS"]
    secured.allow(*(("DESCRIBE", "TOPIC", name) for name in names))
    with pytest.raises(Refusal, match=f"allow user app Create on topic {unique}-in "):
        topics.create(settings, 1, 1)
    secured.allow(*(("CREATE", "TOPIC", name) for name in names))
    topics.create(settings, 1, 1)


def test_the_acls_that_are_shown_can_be_set_as_shown(secured: SecuredKafka, tmp_path: Path) -> None:
    if not can_run("kafka_tools"):
        pytest.skip(documented.WHAT_TO_INSTALL)
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    (tmp_path / "admin.properties").write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"
        f'sasl.jaas.config={module} required username="root" password="{ROOT_PASSWORD}";\n'
    )
    address, tools = secured.kafka.listeners["CLEARLOGIN"], documented.programs(tmp_path / "bin", kafka=True)
    shown = [line for line in documented.commands("docs/security.md") if line.startswith("kafka-acls.sh")]
    said = [documented.run(line.replace("kafka:9092", address), tmp_path, tools) for line in shown]
    set_now = [
        (re.findall(r"name=([^,]+), patternType=(\w+)", text)[0], re.findall(r"operation=(\w+)", text)) for text in said
    ]
    assert {(*where, *sorted({*what})) for where, what in set_now} == {
        ("foldcast-changelog", "LITERAL", "DESCRIBE_CONFIGS", "READ", "WRITE"),
        ("foldcast/", "PREFIXED", "WRITE"),
    }
