"""Clients of a secured broker: their variables, their secrets in files, and what can be seen of their processes."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from tests.brokers.certificates import CLIENT, Authority, encrypt
from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.brokers.secured import SecuredKafka
from worker.cli import app

SECRETS = tuple(f"{kind}-{uuid.uuid4().hex}" for kind in ("scram", "plain", "client", "key", "pages"))
SCRAM_PASSWORD, PLAIN_PASSWORD, CLIENT_SECRET, KEY_PASSWORD, PAGES_PASSWORD = SECRETS
CELLSTREAM = Path(sys.executable).with_name("cellstream")
READ, WRITE = "READ", "WRITE"


@dataclass(frozen=True)
class Secured:
    """The one secured broker, three topics on it, and the directory for its secrets' files."""

    broker: SecuredKafka
    cluster: TestCluster
    input_topic: str
    output_topic: str
    dead_letter_topic: str
    directory: Path

    def secret(self, content: str) -> str:
        """A file with a secret."""
        path = self.directory / f"secret-{uuid.uuid4().hex}"
        path.write_text(f"{content}\n")
        return str(path)

    def environment(self, mechanism: str, user: str, password: str) -> dict[str, str]:
        """Variables of a client with a password, which stands in a file."""
        return {
            "CELLSTREAM_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "CELLSTREAM_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "CELLSTREAM_KAFKA__SSL_CA_LOCATION": str(self.broker.authority.certificate),
            "CELLSTREAM_KAFKA__SASL_MECHANISM": mechanism,
            "CELLSTREAM_KAFKA__SASL_USERNAME": user,
            "CELLSTREAM_KAFKA__SASL_PASSWORD_FILE": self.secret(password),
            **self.topics(),
        }

    def certificate(self, name: str, authority: Authority | None = None) -> dict[str, str]:
        """Variables of a client with a certificate, whose key opens with a password."""
        certificate, key = (authority or self.broker.authority).sign(name, f"/CN={name}", CLIENT)
        return {
            "CELLSTREAM_BOOTSTRAP_SERVERS": self.broker.mtls_servers,
            "CELLSTREAM_KAFKA__SECURITY_PROTOCOL": "SSL",
            "CELLSTREAM_KAFKA__SSL_CA_LOCATION": str(self.broker.authority.certificate),
            "CELLSTREAM_KAFKA__SSL_CERTIFICATE_LOCATION": str(certificate),
            "CELLSTREAM_KAFKA__SSL_KEY_LOCATION": str(encrypt(key, KEY_PASSWORD)),
            "CELLSTREAM_KAFKA__SSL_KEY_PASSWORD_FILE": self.secret(KEY_PASSWORD),
            **self.topics(),
        }

    def topics(self) -> dict[str, str]:
        return {
            "CELLSTREAM_INPUT_TOPIC": self.input_topic,
            "CELLSTREAM_OUTPUT_TOPIC": self.output_topic,
            "CELLSTREAM_DEAD_LETTER_TOPIC": self.dead_letter_topic,
        }


def run_help(environment: dict[str, str]) -> str:
    return CliRunner().invoke(app, ["run", "--help"], env=environment).output


def cellstream(arguments: list[str], environment: dict[str, str], said: str = "") -> str:
    """Run a command that succeeds, or stops at lines that were bad on purpose; both outputs."""
    done = subprocess.run(
        [CELLSTREAM, *arguments], input=said, env={"PATH": "", **environment}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def page(worker: Process, path: str) -> str:
    found = re.search(r"supervising.*metrics=http://(\S+)/metrics", worker.log.read_text())
    assert found, worker.tail()
    login = base64.b64encode(f"prometheus:{PAGES_PASSWORD}".encode()).decode()
    request = urllib.request.Request(f"http://{found[1]}{path}", headers={"Authorization": f"Basic {login}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def is_ready(worker: Process) -> bool:
    with suppress(urllib.error.HTTPError):  # 503: a member is still waiting for its partitions
        return bool(page(worker, "/ready"))
    return False


def processes_of(worker: Process) -> list[str]:
    """Arguments and environment of every process of the worker's group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[2]) == worker.pid:
                found += [(entry / name).read_text() for name in ("cmdline", "environ")]
        except (OSError, ValueError):
            continue  # it has ended
    assert len(found) >= 6, "the supervisor and two members"
    return found
