"""Apache Kafka in a container: the public apache/kafka image, or one that starts the same way."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import warnings
from collections.abc import Iterator

from tests.brokers.kafka_process import SETTINGS
from tests.brokers.waiting import wait_for_metadata


def engine_has(image: str) -> bool:
    """Whether a Docker engine answers and already has the image: a test does not pull half a gigabyte unasked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker leaves a socket behind when nobody listens
        found = _ask_engine(image)
        gc.collect()
    return found


def _ask_engine(image: str) -> bool:
    try:
        import docker

        with contextlib.closing(docker.from_env(timeout=5)) as client:
            client.images.get(image)
    except Exception:  # noqa: BLE001  # no library, no socket, no permission, no image: no broker of this kind
        return False
    return True


# The broker has to advertise an address that is known only when the container runs, so its start waits for it.
_START = (
    "until [ -s /tmp/advertised ]; do sleep 0.1; done; "
    'export KAFKA_ADVERTISED_LISTENERS="$(cat /tmp/advertised)"; exec /etc/kafka/docker/run'
)


@contextlib.contextmanager
def container(image: str) -> Iterator[str]:
    """Run one broker in a container and yield its bootstrap servers."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the reaper is an image more; `with` cleans up
    from testcontainers.core.container import DockerContainer

    broker = DockerContainer(image).with_exposed_ports(9092).with_command(["sh", "-c", _START])
    listeners = {
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
    }
    for name, value in (SETTINGS | listeners).items():
        broker = broker.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with broker:
        servers = f"{broker.get_container_host_ip()}:{broker.get_exposed_port(9092)}"
        answer = broker.exec(["sh", "-c", f"echo PLAINTEXT://{servers} > /tmp/advertised"])
        assert answer.exit_code == 0, answer.output
        wait_for_metadata(servers, deadline=time.monotonic() + 60)
        yield servers
