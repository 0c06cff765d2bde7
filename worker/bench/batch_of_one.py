"""The loop people write today: a stateful Keras model of batch size one, fed a record at a time.

    python -m worker.bench.batch_of_one      settings come from CELLSTREAM_* variables

It computes the right probabilities: before each record the stream's own states are put into the model, after it
they are taken out again. It has the transactions of the other contestants, and nothing of what makes a worker: no
checkpoints (a restart forgets every stream), no dead letters, no bound on memory.
"""

from __future__ import annotations

import json
import os
import signal
import time
from threading import Event
from typing import Any

import keras
import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from worker.artifact import read_artifact
from worker.model.keras_file import open_model
from worker.settings import Settings
from worker.settings.sources import load_settings

TIMEOUT_S = 30.0


class StatefulModel:
    """A stateful twin of a trained model, shared by all streams: their states are swapped in and out."""

    def __init__(self, trained: keras.Model) -> None:
        def stateful(layer: keras.layers.Layer) -> keras.layers.Layer:
            config = layer.get_config()
            if isinstance(layer, keras.layers.RNN):
                config["stateful"] = True
            return type(layer).from_config(config)

        batch = keras.Input(batch_shape=(1, 1, trained.input_shape[-1]))
        self.model = keras.models.clone_model(trained, input_tensors=batch, clone_function=stateful)
        self.model.set_weights(trained.get_weights())
        recurrent = [layer for layer in self.model.layers if isinstance(layer, keras.layers.RNN)]
        self.states = [state for layer in recurrent for state in layer.states]
        self.initial = [np.zeros(state.shape, np.float32) for state in self.states]
        self.by_stream: dict[bytes, list[np.ndarray[Any, Any]]] = {}

    def predict(self, stream: bytes, features: list[float]) -> float:
        """The probability after one more sample of a stream."""
        for state, value in zip(self.states, self.by_stream.get(stream, self.initial), strict=True):
            state.assign(value)
        probabilities = self.model.predict_on_batch(np.array([[features]], np.float32))
        self.by_stream[stream] = [state.numpy() for state in self.states]
        return float(probabilities.reshape(-1)[-1])


def run(settings: Settings, model: StatefulModel, digest: str, stop: Event) -> None:
    """Answer every sample until `stop` is set."""
    consumer = Consumer(
        {
            **settings.kafka_conf(),
            "group.id": settings.group_id,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {**settings.kafka_conf(), "transactional.id": settings.transactional_id, "partitioner": "murmur2_random"}
    )
    producer.init_transactions(TIMEOUT_S)
    consumer.subscribe([settings.input_topic])
    timesteps: dict[bytes, int] = {}
    sequences: dict[bytes, str] = {}
    next_offsets: dict[int, int] = {}
    due = 0.0
    while not stop.is_set():
        message = consumer.poll(0.05)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            if not next_offsets:
                producer.begin_transaction()
                due = time.monotonic() + settings.commit_interval_ms / 1000
            stream, partition, offset = message.key(), message.partition(), message.offset()
            sequence = sequences.setdefault(stream, f"{partition}-{offset}")
            timestep = timesteps.get(stream, 0)
            timesteps[stream] = timestep + 1
            event = {
                "stream_id": stream.decode(),
                "sequence": sequence,
                "timestep": timestep,
                "probability": model.predict(stream, json.loads(message.value())["features"]),
                "timestamp": message.timestamp()[1],
                "source": [partition, offset],
                "model": digest[:12],
            }
            producer.produce(settings.output_topic, key=stream, value=json.dumps(event))
            next_offsets[partition] = offset + 1
        if next_offsets and time.monotonic() >= due:
            positions = [TopicPartition(settings.input_topic, p, offset) for p, offset in next_offsets.items()]
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), TIMEOUT_S)
            producer.commit_transaction(TIMEOUT_S)
            next_offsets.clear()
    consumer.close()


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings({}, os.environ, None)
    assert settings.artifact is not None
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    artifact = read_artifact(settings.artifact)
    trained = open_model(artifact.read_model(), str(artifact.model_path))
    run(settings, StatefulModel(trained), artifact.digest, stop)


if __name__ == "__main__":
    main()
