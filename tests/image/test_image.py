"""Laws of the image: it runs without rights, says that it lives, ends when told to, and goes on with its state."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer

from tests.brokers.fixtures import TestCluster
from tests.brokers.ports import free_ports
from tests.chaos.checker import hold
from tests.chaos.checker.records import Output
from tests.deployment import FEATURES, Deployment, Reader, until, until_read
from tests.image.engine import KILLED, Container, Engine
from worker import StreamingModel

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(3600)]  # the first one builds

USER = 10001
STREAMS, TIMESTEPS = 20, 60
LARGEST_MB = 1500


@contextmanager
def worker(
    engine: Engine, image: str, deployment: Deployment, volume: str, *flags: str, port: int
) -> Iterator[Container]:
    """The image's own command, with its settings as variables, and the volume where it keeps checkpoints."""
    settings = {
        "BOOTSTRAP_SERVERS": deployment.cluster.bootstrap_servers,
        "GROUP_ID": deployment.group_id,
        "INPUT_TOPIC": deployment.input_topic,
        "OUTPUT_TOPIC": deployment.output_topic,
        "DEAD_LETTER_TOPIC": deployment.dead_letter_topic,
        "INSTANCE_ID": "worker-0",
        "METRICS_PORT": str(port),
    }
    given = [word for name, value in settings.items() for word in ("--env", f"CELLSTREAM_{name}={value}")]
    with engine.container(image, *given, "--volume", f"{volume}:/checkpoints", *flags) as running:
        yield running


def publish(deployment: Deployment, samples: np.ndarray) -> None:
    """Samples of all streams, interleaved.

    Args:
        deployment: whose input topic gets them.
        samples: (streams, timesteps, features) float32.
    """
    producer = Producer(deployment.cluster.conf | {"enable.idempotence": "true"})
    for timestep in range(samples.shape[1]):
        for stream in range(samples.shape[0]):
            value = json.dumps({"features": samples[stream, timestep].tolist()})
            producer.produce(deployment.input_topic, key=f"stream-{stream}", value=value)
    assert producer.flush(60) == 0


def own_image(directory: Path, image: str, artifact: Path) -> Path:
    """What docs/deploy.md says of an image that has its model in it."""
    shutil.copytree(artifact, directory / "artifact")
    (directory / "Dockerfile").write_text(f"FROM {image}\nCOPY artifact /artifact\n")
    return directory


def trajectories(outputs: list[Output]) -> Mapping[str, list[float]]:
    """The probabilities of each stream, in the order of its timesteps; each timestep once."""
    found: dict[str, dict[int, float]] = {}
    for event in (json.loads(one.value) for one in outputs):
        stream = found.setdefault(event["stream_id"], {})
        assert event["timestep"] not in stream, event
        stream[event["timestep"]] = event["probability"]
    return {name: [stream[timestep] for timestep in range(len(stream))] for name, stream in found.items()}


def test_image_is_what_its_file_promises(engine: Engine, image: str, base: str) -> None:
    facts = engine.facts(image)
    assert facts["Size"] < LARGEST_MB * 1e6
    layers, below = (engine.facts(name)["RootFS"]["Layers"] for name in (image, base))
    assert layers[: len(below)] == below
    config = facts["Config"]
    assert config["User"] == str(USER)
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["tini", "--", "cellstream"]
    assert list(config["Volumes"]) == ["/checkpoints"]


def test_tensorflow_has_no_code_for_graphics_processors(engine: Engine, image: str) -> None:
    asked = "import tensorflow as tf; print(tf.test.is_built_with_gpu_support())"
    said = engine("run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c", asked)
    assert said.splitlines()[-1] == "False"


def test_wrong_setting_ends_the_container_with_the_workers_own_exit_code(engine: Engine, image: str) -> None:
    with engine.container(image, "--env", "CELLSTREAM_NONSENSE=1") as container:
        until(lambda: container.returncode is not None, "its end")
        assert container.returncode == 2, container.tail()
        assert "CELLSTREAM_NONSENSE" in container.tail()


def test_signal_that_comes_before_the_worker_has_started_is_not_lost(engine: Engine, image: str) -> None:
    with engine.container(image) as container:
        assert container.stop() != KILLED, container.tail()


def test_container_is_healthy_ends_by_sigterm_and_goes_on_where_it_was_on_the_same_volume(
    engine: Engine, image: str, kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path)
    samples = np.random.default_rng(7).normal(size=(STREAMS, TIMESTEPS, len(FEATURES))).astype(np.float32)
    half = TIMESTEPS // 2
    (port,) = free_ports(1)
    with engine.volume() as volume, Reader(kafka, deployment.output_topic) as reader:
        mounted = f"{artifact}:/artifact:ro"
        with worker(engine, image, deployment, volume, "--volume", mounted, port=port) as first:
            publish(deployment, samples[:, :half])
            until_read(reader, STREAMS * half, first)
            until(lambda: first.state["Health"]["Status"] == "healthy", "its own health check", first)
            check = engine.facts(image)["Config"]["Healthcheck"]["Test"]
            assert check[0] == "CMD"
            assert engine.code_of("exec", "--env", "CELLSTREAM_METRICS_PORT=1", first.name, *check[1:]) == 1
            assert engine("exec", first.name, "id", "-u") == str(USER)
            assert engine("diff", first.name) == "A /artifact", "only the place of the mount is new"
            assert first.stop() == 0, first.tail()
            engine("cp", f"{first.name}:/checkpoints", deployment.checkpoints)
        saved = list(deployment.checkpoints.rglob("*.h5"))
        assert saved

        with_model = engine.build(own_image(tmp_path / "own", image, artifact), "cellstream-test-model")
        with worker(engine, with_model, deployment, volume, port=port) as second:
            publish(deployment, samples[:, half:])
            until_read(reader, STREAMS * TIMESTEPS, second)
            assert second.tail(100_000).count('"source":"checkpoint"') == 4, second.tail()
            assert second.stop() == 0, second.tail()
            engine("cp", f"{second.name}:/checkpoints/.", deployment.checkpoints)
        answers = trajectories(reader.outputs())
    model = StreamingModel.load(artifact)
    assert len(answers) == STREAMS
    for number, sequence in enumerate(samples):
        expected = model.run(sequence)[:, 0]
        np.testing.assert_allclose(answers[f"stream-{number}"], expected, rtol=0, atol=1e-6)
    assert hold(deployment) == []
