"""`cellstream demo`: train, stream held-out recordings through the worker, compare every answer with Keras.

Broker, producer and consumer live in this process, the worker is a child: the same `cellstream run` as in
production, on the embedded broker.
"""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console

from training.datasets import Sequences, held_out
from training.demo_artifact import trained
from training.demo_ledger import Ledger
from training.demo_view import display, tell
from training.demo_worker import DemoWorker
from worker.artifact import Artifact
from worker.commands.sample_sources import Sample, encode_json, read_sequences
from worker.errors import FatalFault, UsageError
from worker.kafka.embedded import PARTITIONS, EmbeddedBroker

DATASET = "basic-motions"
INPUT, OUTPUT, DEAD_LETTERS = "samples", "probabilities", "samples.dlq"
PATIENCE_S = 15.0  # without any answer, before what is missing counts as missing
LINGER_S = 0.5  # several commit intervals: a doubled answer would come in them
INTERRUPTED = 130
# The embedded broker answers an idle fetch when its time is over, not when a record comes: half a second by default.
PROMPT_FETCH = {"fetch.wait.max.ms": "10"}


def demo(
    rate: Annotated[
        float, typer.Option("--rate", min=0.1, help="samples per second of each stream; recorded at 10")
    ] = 20.0,
    streams: Annotated[
        int | None, typer.Option("--streams", min=1, help="recordings to replay at once; all if not given")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the split and the training")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="the result as one JSON object")] = False,
) -> None:
    """Train an LSTM on real wrist-sensor recordings and stream the held-out ones through the worker, live.

    Everything runs on this machine, without a cluster: the broker is embedded. The trained model is kept in the
    user's cache, so that the next demo starts in seconds. At the end every published probability is compared with
    Keras on the sequence so far; exit code 1 if one differs by more than the artifact's certificate says, is missing
    or came twice.

    Example: cellstream demo --rate 50
    """
    console = Console(stderr=as_json, highlight=False)
    try:
        with _interruptible() as verify_wanted:
            artifact = trained(DATASET, seed, console)
            verify_wanted()
            ledger = _stream(artifact, seed, streams, rate, console, verify_wanted)
    except KeyboardInterrupt:
        console.print("stopped; nothing is left running")
        raise typer.Exit(INTERRUPTED) from None
    report = ledger.report()
    if as_json:
        print(json.dumps({"artifact": str(artifact.directory), **report.to_json()}))
    else:
        tell(console, report)
    if report.problems:
        raise FatalFault("; ".join(report.problems))


def _stream(
    artifact: Artifact,
    seed: int,
    streams: int | None,
    rate: float,
    console: Console,
    verify_wanted: Callable[[], None],
) -> Ledger:
    """Start broker and worker, replay held-out recordings, stop both.

    Raises:
        FatalFault: the broker or the worker failed.
        KeyboardInterrupt: by `verify_wanted`.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellstream-demo-")))
        broker = stack.enter_context(EmbeddedBroker())
        broker.create_topics(INPUT, OUTPUT, DEAD_LETTERS)
        with console.status("starting the worker"):
            worker = DemoWorker(_flags(broker, artifact, directory), directory / "worker.log")
            stack.callback(worker.close)
            recordings = _recordings(seed, streams)  # while the worker starts: all this takes imports of seconds
            ledger = _ledger(artifact, recordings)
            verify_wanted()
            worker.wait_until_ready()
        # Level 0: when the broker closes, its clients have nothing to say that a person needs.
        conf = {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0}
        producer = Producer({**conf, "linger.ms": 1})
        stack.callback(producer.close)
        consumer = Consumer({**conf, **PROMPT_FETCH, "group.id": "demo", "isolation.level": "read_committed"})
        stack.callback(consumer.close)
        consumer.assign([TopicPartition(OUTPUT, partition, 0) for partition in range(PARTITIONS)])
        show = stack.enter_context(display(console))
        samples = read_sequences(recordings.stream_ids, recordings.inputs, encode_json)
        for _ in _replay(producer, consumer, ledger, samples, rate * len(recordings)):
            show(ledger)
            worker.verify()
            verify_wanted()
    return ledger


def _replay(
    producer: Producer, consumer: Consumer, ledger: Ledger, samples: Iterator[Sample], rate: float
) -> Iterator[None]:
    """Send samples at `rate` per second and book what comes back, until nothing more is to be expected.

    Yields:
        Many times a second, between two polls.
    """
    began_s = answered_s = time.monotonic()
    sample = next(samples, None)
    while True:
        now_s = time.monotonic()
        while sample is not None and began_s + ledger.samples / rate <= now_s:
            ledger.sent(sample.key.decode(), time.monotonic())
            producer.produce(INPUT, sample.value, sample.key)
            sample = next(samples, None)
        producer.poll(0)
        for message in consumer.consume(1000, 0.01):
            if message.error() is None:
                answered_s = time.monotonic()
                ledger.receive(message.value(), answered_s)
        yield
        silence_s = time.monotonic() - answered_s
        if sample is None and silence_s > (LINGER_S if ledger.complete else PATIENCE_S):
            return


def _ledger(artifact: Artifact, recordings: Sequences) -> Ledger:
    """Books with what Keras says of every recording after each of its timesteps.

    The model answers every timestep of a sequence from the samples up to it, so one call gives Keras' answer for
    every sequence so far.
    """
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    from training.evaluation import predict
    from worker.model.keras_file import open_model

    model = open_model(artifact.read_model(), str(artifact.model_path))
    expected = predict(model, recordings.inputs)
    limit = artifact.manifest.parity.tolerance
    return Ledger(recordings.stream_ids, expected, recordings.labels, recordings.classes, limit)


def _flags(broker: EmbeddedBroker, artifact: Artifact, directory: Path) -> list[str]:
    """Every setting that the demo depends on; the rest are the defaults that production has."""
    settings = {
        "bootstrap-servers": broker.bootstrap_servers,
        "input-topic": INPUT,
        "output-topic": OUTPUT,
        "dead-letter-topic": DEAD_LETTERS,
        "artifact": str(artifact.directory),
        "checkpoints": str(directory / "checkpoints"),
        "metrics-host": "127.0.0.1",
        "log-format": "json",
    }
    flags = [text for name, value in settings.items() for text in (f"--{name}", value)]
    return flags + [text for name, value in PROMPT_FETCH.items() for text in ("--kafka", f"{name}={value}")]


def _recordings(seed: int, streams: int | None) -> Sequences:
    """So many of the recordings that training did not see."""
    recordings = held_out(DATASET, seed)
    if streams is not None and streams > len(recordings):
        raise UsageError(f"--streams {streams}: there are {len(recordings)} held-out recordings")
    return recordings.take(range(streams or len(recordings)))


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does: nothing stays behind.

    Yields:
        A function that raises KeyboardInterrupt if a signal came: where a library was being imported or a callback
        ran, the exception of the signal itself may have been swallowed.
    """
    unwanted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal unwanted
        unwanted = True
        raise KeyboardInterrupt

    def verify_wanted() -> None:
        if unwanted:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield verify_wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
