"""A broker with TLS, log-ins and ACLs, with certificates of its own: right ones and wrong ones."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.rigs.client import chosen_client
from worker.broker.security import open_admin
from worker.demo.local_kafka import LocalKafka, kafka_from_jars
from worker.settings.kafka import Kafka

ROOT, APP = "root", "app"  # the one may do everything, the other what ACLs allow it
ROOT_PASSWORD, APP_PASSWORD, KEY_PASSWORD = "root-secret-77", "app-secret-12345", "keysecret-9f3"
WRONG_PASSWORD = "wrong-secret-999"
SECRETS = (ROOT_PASSWORD, APP_PASSWORD, KEY_PASSWORD, WRONG_PASSWORD)

# Name of the listener: its protocol and its certificate
LISTENERS = {
    "TLS": ("SSL", "good"),
    "MUTUAL": ("SSL", "good"),
    "OTHERNAME": ("SSL", "othername"),
    "EXPIRED": ("SSL", "expired"),
    "ALIAS": ("SSL", "alias"),  # bootstraps by the name localhost, and then advertises an address
    "LOGIN": ("SASL_SSL", "good"),
    "CLEARLOGIN": ("SASL_PLAINTEXT", None),
}


@dataclass(frozen=True)
class SecuredKafka:
    """Where it listens, and the files that go with it."""

    kafka: LocalKafka
    files: Path

    def settings(self, listener: str, **given: object) -> dict[str, object]:
        """What the section `kafka` says of a listener, log-in of ROOT included; `given` comes on top, None removes."""
        protocol = LISTENERS[listener][0] if listener in LISTENERS else "PLAINTEXT"
        address = self.kafka.listeners.get(listener, self.kafka.bootstrap_servers)
        said: dict[str, object] = {
            "bootstrap_servers": address,
            "security_protocol": protocol,
            "client": chosen_client(),
        }
        if "SSL" in protocol:
            said["ssl_cafile"] = self.file("ca.pem")
        if protocol.startswith("SASL"):
            said |= {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": ROOT, "sasl_password": ROOT_PASSWORD}
        return {name: value for name, value in (said | given).items() if value is not None}

    def file(self, name: str) -> str:
        return str(self.files / name)

    @contextmanager
    def admin(self) -> Iterator[object]:
        admin = open_admin(Kafka(bootstrap_servers=self.kafka.bootstrap_servers, instance_id="rig"))
        try:
            yield admin
        finally:
            admin.close()

    def allow(self, *rights: tuple[str, str, str]) -> None:
        """Rights of APP: operation, kind of the resource, its name."""
        with self.admin() as admin:
            rules = [
                ACL(f"User:{APP}", "*", ACLOperation[what], ACLPermissionType.ALLOW, ResourcePattern(_kind(kind), name))
                for what, kind, name in rights
            ]
            assert not admin.create_acls(rules)["failed"]

    def withdraw(self, what: str, kind: str, name: str) -> None:
        with self.admin() as admin:
            pattern = ResourcePatternFilter(_kind(kind), name, ACLResourcePatternType.LITERAL)
            rule = ACLFilter(f"User:{APP}", "*", ACLOperation[what], ACLPermissionType.ALLOW, pattern)
            assert len(admin.delete_acls([rule])) == 1


def _kind(name: str) -> ResourceType:
    return ResourceType[name]


def secured_kafka(files: Path) -> SecuredKafka:
    """Start one; whoever calls stops its `kafka`."""
    make_certificates(files)
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{ROOT};User:CN=client",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "listener.name.mutual.ssl.client.auth": "required",
    }
    users = " ".join(f'user_{name}="{password}"' for name, password in ((ROOT, ROOT_PASSWORD), (APP, APP_PASSWORD)))
    common = "org.apache.kafka.common.security"
    for name, (protocol, certificate) in LISTENERS.items():
        its = f"listener.name.{name.lower()}"
        if protocol.startswith("SASL"):
            properties |= {
                f"{its}.plain.sasl.jaas.config": f"{common}.plain.PlainLoginModule required {users};",
                f"{its}.scram-sha-512.sasl.jaas.config": f"{common}.scram.ScramLoginModule required;",
            }
        if certificate is not None:
            properties |= {
                f"{its}.ssl.keystore.type": "PEM",
                f"{its}.ssl.keystore.location": str(files / f"{certificate}.both.pem"),
                f"{its}.ssl.truststore.type": "PEM",
                f"{its}.ssl.truststore.location": str(files / "ca.pem"),
            }
    listeners = {name: protocol for name, (protocol, _) in LISTENERS.items()}
    secured = SecuredKafka(kafka_from_jars(extra_properties=properties, listeners=listeners), files)
    with secured.kafka.stopped_on_failure(), secured.admin() as admin:
        for name, password in ((ROOT, ROOT_PASSWORD), (APP, APP_PASSWORD)):
            made = UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password)
            assert admin.alter_user_scram_credentials([made]) == {name: None}
    return secured


def make_certificates(files: Path) -> None:
    """Two authorities (`ca`, `other`), and certificates of the first for brokers and a client."""
    for name in ("ca", "other"):
        _openssl(files, "req -x509 -days 30 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc", name, name)
    signed(files, "good", "IP:127.0.0.1")
    signed(files, "othername", "DNS:kafka.example.org")
    signed(files, "alias", "DNS:localhost")
    signed(files, "expired", "IP:127.0.0.1", days=-1)
    signed(files, "client", "DNS:client")
    signed(files, "stranger", "DNS:stranger", authority="other")
    _run(files, f"openssl ec -in client.key -aes128 -passout pass:{KEY_PASSWORD} -out client.locked.key")
    (files / "junk.pem").write_text("not a certificate\n")


def signed(files: Path, name: str, alternative_name: str, days: int = 30, authority: str = "ca") -> None:
    """Make `name`.pem, `name`.key and both of them in one file."""
    _run(
        files,
        f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout {name}.key -out {name}.csr "
        f"-subj /CN={name}",
    )
    (files / f"{name}.ext").write_text(f"subjectAltName={alternative_name}\n")
    _run(
        files,
        f"openssl x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days {days} "
        f"-extfile {name}.ext -out {name}.pem",
    )
    (files / f"{name}.both.pem").write_text((files / f"{name}.key").read_text() + (files / f"{name}.pem").read_text())


def _openssl(files: Path, command: str, name: str, subject: str) -> None:
    _run(files, f"openssl {command} -keyout {name}.key -out {name}.pem -subj /CN={subject}")


def _run(files: Path, command: str) -> None:
    done = subprocess.run(command.split(), cwd=files, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
