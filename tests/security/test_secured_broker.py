"""A broker with TLS, logins and ACLs: who comes with the right ones is served, anybody else is told what to change."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.brokers.certificates import Authority
from tests.brokers.choice import must_have_broker
from tests.brokers.jars import fetch_jars, what_is_missing
from tests.brokers.process import Process
from tests.brokers.secured import SecuredKafka
from tests.deployment import Deployment, Reader, until, until_read
from tests.security.secured import (
    CLIENT_SECRET,
    PAGES_PASSWORD,
    PLAIN_PASSWORD,
    READ,
    SCRAM_PASSWORD,
    SECRETS,
    WRITE,
    Secured,
    cellstream,
    is_ready,
    page,
    processes_of,
    run_help,
)
from tests.security.tokens import token_endpoint
from worker.assembly import assemble
from worker.errors import CellstreamError, FatalFault
from worker.kafka import Source, TransactionalSink
from worker.kafka.admin import Cluster
from worker.kafka.rights import Right, worker_rights
from worker.settings import Settings
from worker.settings.sources import load_settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    missing = what_is_missing()
    if missing is not None:
        refuse = pytest.fail if must_have_broker() else pytest.skip
        refuse(f"a secured broker is a local one: install {missing}")
    directory = tmp_path_factory.mktemp("secured")
    users = {"worker": SCRAM_PASSWORD}
    with SecuredKafka(fetch_jars(), directory / "kafka", users, {"publisher": PLAIN_PASSWORD}) as broker:
        cluster = broker.cluster()
        topics = [cluster.topic(name) for name in ("samples", "probabilities", "dead-letters")]
        yield Secured(broker, cluster, *topics, directory)
        gc.collect()  # clients of workers that were refused would look for the broker for ever


def settings_of(artifact: Path, directory: Path, environment: dict[str, str], **more: str) -> Settings:
    given = {"artifact": str(artifact), "checkpoints": str(directory / "checkpoints"), "instance_id": "w", **more}
    return load_settings(given, environment, None)


@contextmanager
def no_pages(_: object) -> Iterator[str]:
    yield "nowhere"


def run(settings: Settings, stop: threading.Event) -> None:
    """The worker, in this process: one that is refused need not import TensorFlow again to say so."""
    with assemble(settings, no_pages) as worker:
        try:
            worker.startup()
            worker.run(stop)
        except BaseException:
            worker.fail()
            raise
        worker.shutdown()


def run_clients(settings: Settings, stop: threading.Event) -> None:
    """What of the worker comes to the broker after its model is there, without the model."""
    conf = {**settings.kafka_conf(), "log_level": "0"}
    source = Source(conf, settings.input_topic, settings.group_id)
    topics = settings.output_topic, settings.dead_letter_topic
    sink = TransactionalSink(conf, *topics, settings.transactional_id, settings.instance_id)
    try:
        sink.start()
        source.subscribe(Nobody())
        while not stop.is_set():
            source.poll(1, 0.1)
    finally:
        sink.close()
        source.close()


class Nobody:
    """Does nothing with its partitions."""

    def on_assign(self, partitions: Sequence[int]) -> None: ...

    def on_revoke(self, partitions: Sequence[int]) -> None: ...

    def on_lost(self, partitions: Sequence[int]) -> None: ...


MISTAKES = {
    "wrong password": ({"SASL_PASSWORD": "guessed"}, "wrong user name or password; check CELLSTREAM_KAFKA__SASL_USER"),
    "wrong mechanism": ({"SASL_MECHANISM": "SCRAM-SHA-256"}, "set CELLSTREAM_KAFKA__SASL_MECHANISM.*SCRAM-SHA-512"),
    "no authority": ({"SSL_CA_LOCATION": None}, "not signed by an authority.*set CELLSTREAM_KAFKA__SSL_CA_LOCATION"),
    "wrong authority": ({"SSL_CA_LOCATION": "alien"}, "not signed by an authority.*set CELLSTREAM_KAFKA__SSL_CA_LOC"),
    "no user name": ({"SASL_USERNAME": None}, "sasl.username and sasl.password must be set"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_login_is_a_wrong_setting_and_the_words_say_which(
    secured: Secured, artifact: Path, tmp_path: Path, mistake: str
) -> None:
    changes, words = MISTAKES[mistake]
    environment = secured.environment("SCRAM-SHA-512", "worker", SCRAM_PASSWORD)
    for name, value in changes.items():
        for ending in ("", "_FILE"):
            environment.pop(f"CELLSTREAM_KAFKA__{name}{ending}", None)
        if value is not None:
            chosen = str(Authority(tmp_path / "alien").certificate) if value == "alien" else value
            environment[f"CELLSTREAM_KAFKA__{name}"] = chosen
    refused(artifact, tmp_path, environment, words, exit_code=2)


@pytest.mark.parametrize("mistake", ["none", "alien", "wrong password of the key"])
def test_a_certificate_that_is_missing_or_of_another_authority_is_a_wrong_setting(
    secured: Secured, artifact: Path, tmp_path: Path, mistake: str
) -> None:
    alien = Authority(tmp_path / "alien") if mistake == "alien" else None
    environment = secured.certificate("nobody", alien)
    words = "wants a client certificate that it trusts; set CELLSTREAM_KAFKA__SSL_CERTIFICATE_LOCATION"
    if mistake == "none":
        environment = {name: value for name, value in environment.items() if not re.search("_KEY|CERTIFICATE", name)}
    elif mistake != "alien":
        environment["CELLSTREAM_KAFKA__SSL_KEY_PASSWORD_FILE"] = secured.secret("guessed")
        words = "ssl.key.location failed"
    refused(artifact, tmp_path, environment, words, exit_code=2)


def refused(artifact: Path, directory: Path, environment: dict[str, str], words: str, exit_code: int) -> None:
    """Run a worker and expect its end with these words."""
    with pytest.raises(CellstreamError, match=words) as fault:
        run(settings_of(artifact, directory, environment), threading.Event())
    assert fault.value.exit_code == exit_code
    assert not any(secret in str(fault.value) for secret in (*SECRETS, "guessed"))


def test_a_listener_that_expects_tls_hangs_up_and_the_words_say_what_that_may_mean(
    secured: Secured,
) -> None:
    silent = Cluster({"bootstrap.servers": secured.broker.bootstrap_servers}, timeout_s=1.0)
    with pytest.raises(FatalFault, match=r"check .* CELLSTREAM_KAFKA__SECURITY_PROTOCOL: a listener"):
        silent.cluster_id()


PRINCIPAL = "User:worker"
WORKER_RIGHTS = worker_rights(Settings(input_topic="i", output_topic="o", dead_letter_topic="d", group_id="g"))


@pytest.mark.parametrize("left_out", range(len(WORKER_RIGHTS)), ids=[str(right) for right in WORKER_RIGHTS])
def test_each_right_of_the_least_set_is_needed_and_named_when_it_is_missing(
    secured: Secured, artifact: Path, tmp_path: Path, left_out: int
) -> None:
    environment = secured.environment("SCRAM-SHA-512", "worker", SCRAM_PASSWORD)
    settings = settings_of(artifact, tmp_path, environment, group_id=secured.cluster.unique("group"))
    rights = worker_rights(settings)
    missing = rights.pop(left_out)
    secured.broker.deny(PRINCIPAL)
    secured.broker.allow(PRINCIPAL, rights)
    named = str(missing).removesuffix("*")  # of the transactional IDs, the worker names its own
    begin = run if missing.resource == "topic" else run_clients
    with pytest.raises(CellstreamError, match=f"lacks the right: {re.escape(named)}") as fault:
        begin(settings, threading.Event())
    assert fault.value.exit_code == 1


def test_rights_that_are_missing_are_named_together(secured: Secured, artifact: Path, tmp_path: Path) -> None:
    settings = settings_of(artifact, tmp_path, secured.environment("SCRAM-SHA-512", "worker", SCRAM_PASSWORD))
    secured.broker.deny(PRINCIPAL)
    secured.broker.allow(PRINCIPAL, [Right("DESCRIBE", "topic", secured.output_topic, "looks, and no more")])
    wanted = ", ".join(str(right) for right in worker_rights(settings) if right.resource == "topic")
    with pytest.raises(CellstreamError, match=re.escape(wanted)):
        run(settings, threading.Event())


def test_a_group_with_exactly_its_rights_answers_and_its_secrets_stay_in_their_files(
    secured: Secured, artifact: Path, tmp_path: Path
) -> None:
    """Workers by SCRAM, a publisher by PLAIN, a reader by a token; each with its least rights and no other."""
    broker, cluster = secured.broker, secured.cluster
    group_id = cluster.unique("group")
    environment = secured.environment("SCRAM-SHA-512", "worker", SCRAM_PASSWORD)
    environment |= {
        "CELLSTREAM_KAFKA__DEBUG": "conf,security",
        "CELLSTREAM_LOG_LEVEL": "debug",
        "CELLSTREAM_METRICS_USERNAME": "prometheus",
        "CELLSTREAM_METRICS_PASSWORD_FILE": secured.secret(PAGES_PASSWORD),
    }
    settings = settings_of(artifact, tmp_path, environment, group_id=group_id)
    broker.deny(PRINCIPAL)
    broker.allow(PRINCIPAL, worker_rights(settings))
    broker.allow("User:publisher", [Right(WRITE, "topic", secured.input_topic, "")])
    broker.allow("User:reader", [Right(READ, "topic", secured.output_topic, "")])
    deployment = Deployment(
        cluster, artifact, tmp_path, secured.input_topic, secured.output_topic, secured.dead_letter_topic, group_id,
        ("--workers", "2"), lambda command, log: Process(command, log, environment),
    )  # fmt: skip
    samples = [{"stream_id": f"s{number % 5}", "features": [number, 1, 2]} for number in range(20)]
    lines = "".join(f"{json.dumps(sample)}\n" for sample in [*samples, {"stream_id": "bad", "features": [1]}])
    seen = [run_help(environment)]
    with (
        Reader(cluster, secured.output_topic) as outputs,
        Reader(cluster, secured.dead_letter_topic) as letters,
        deployment.worker() as worker,
        token_endpoint("reader", CLIENT_SECRET, "reader") as tokens,
    ):
        publisher = secured.environment("PLAIN", "publisher", PLAIN_PASSWORD)
        seen.append(cellstream(["publish", "-"], publisher, lines))
        until_read(outputs, len(samples), worker)
        until_read(letters, 1, worker)
        until(lambda: is_ready(worker), "both members ready", worker)
        seen += [page(worker, path) for path in ("/metrics", "/live", "/ready")]
        seen += processes_of(worker)
        reader = token_environment(secured, tokens)
        watched = cellstream(["watch", "--from-beginning", "--json", "--limit", str(len(samples))], reader)
        assert len(watched.splitlines()) == len(samples)
        assert worker.stop() == 0, worker.tail()
    seen += [worker.log.read_text(), watched]
    seen += [repr((m.key(), m.value(), m.headers())) for m in (*outputs.messages, *letters.messages)]
    assert any("sasl.password" in text for text in seen)  # the client was made to say its configuration
    for text in seen:
        for secret in SECRETS:
            assert secret not in text, text[max(0, text.index(secret) - 300) : text.index(secret)]


def test_a_right_that_is_taken_away_ends_the_worker_with_its_name(
    secured: Secured, artifact: Path, tmp_path: Path
) -> None:
    """By a certificate, at least once: there, the transactional ID needs no right."""
    environment = secured.certificate("metal")
    named = {"group_id": secured.cluster.unique("group"), "delivery": "at_least_once"}
    settings = settings_of(artifact, tmp_path, environment, **named)
    secured.broker.allow("User:CN=metal", worker_rights(settings))
    faults: list[CellstreamError] = []

    def work() -> None:
        try:
            run(settings, threading.Event())
        except CellstreamError as fault:
            faults.append(fault)

    secured.broker.allow("User:publisher", [Right(WRITE, "topic", secured.input_topic, "")])
    producer = Producer({**secured.broker.sasl_conf("PLAIN", "publisher", PLAIN_PASSWORD), "log_level": "0"})

    def publish(key: str) -> None:
        producer.produce(secured.input_topic, key=key, value=b'{"features": [1, 2, 3]}')
        assert producer.flush(60) == 0

    thread = threading.Thread(target=work)
    with Reader(secured.cluster, secured.output_topic) as outputs:
        publish("first")
        thread.start()
        until(lambda: any(m.key() == b"first" for m in outputs.messages) or not thread.is_alive(), "an answer")
        assert not faults, faults
        secured.broker.deny("User:CN=metal", Right(WRITE, "topic", secured.output_topic, ""))
        publish("second")
        until(lambda: not thread.is_alive(), "the end")
    assert f"lacks the right: WRITE on topic {secured.output_topic}" in str(faults[0])


def token_environment(secured: Secured, endpoint: str) -> dict[str, str]:
    """Variables of a client that fetches a token by OpenID Connect."""
    client = secured.environment("OAUTHBEARER", "unused", "unused")
    del client["CELLSTREAM_KAFKA__SASL_USERNAME"], client["CELLSTREAM_KAFKA__SASL_PASSWORD_FILE"]
    return client | {
        "CELLSTREAM_KAFKA__SASL_OAUTHBEARER_METHOD": "oidc",
        "CELLSTREAM_KAFKA__SASL_OAUTHBEARER_CLIENT_ID": "reader",
        "CELLSTREAM_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET_FILE": secured.secret(CLIENT_SECRET),
        "CELLSTREAM_KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": endpoint,
    }
