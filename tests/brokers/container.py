"""Apache Kafka in a container: the public apache/kafka image, or one that starts the same way."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import warnings
from collections.abc import Iterator

from tests.brokers.kafka_process import SETTINGS, free_ports, wait_for_metadata


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


@contextlib.contextmanager
def container(image: str) -> Iterator[str]:
    """Run one broker in a container and yield its bootstrap servers.

    The port on the host is chosen beforehand, because the broker has to advertise it.
    """
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the reaper is an image more; `with` cleans up
    from testcontainers.core.container import DockerContainer

    (port,) = free_ports(1)
    broker = DockerContainer(image).with_bind_ports(9092, port)
    host = broker.get_container_host_ip()
    properties = {
        **SETTINGS,
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
    }
    for name, value in properties.items():
        broker = broker.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with broker:
        wait_for_metadata(f"{host}:{port}", deadline=time.monotonic() + 60)
        yield f"{host}:{port}"
