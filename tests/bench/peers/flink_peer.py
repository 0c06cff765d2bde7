"""PyFlink for the same work: a keyed process function with value state, checkpoints and an exactly-once sink.

flink_peer.py WEIGHTS DIGEST CONNECTOR      in the environment that `make peers` makes; CELLSTREAM_* variables tell of
topics, CONNECTOR is the jar of Flink's Kafka connector

Source and sink are tables: PyFlink's own Kafka source knows neither keys nor offsets.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from model import Answers
from pyflink.common import Configuration, Row
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.table import StreamTableEnvironment

SAMPLES = """
CREATE TABLE samples (
    stream_id STRING,
    sample STRING,
    place INT METADATA FROM 'partition' VIRTUAL,
    place_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    stamp TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
    'connector' = 'kafka', 'topic' = '{input_topic}', 'properties.bootstrap.servers' = '{bootstrap_servers}',
    'properties.group.id' = '{group_id}', 'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset', 'key.format' = 'raw', 'key.fields' = 'stream_id',
    'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'
)"""
EVENTS = """
CREATE TABLE events (stream_id STRING, event STRING) WITH (
    'connector' = 'kafka', 'topic' = '{output_topic}', 'properties.bootstrap.servers' = '{bootstrap_servers}',
    'key.format' = 'raw', 'key.fields' = 'stream_id', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY',
    'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{group_id}',
    'sink.transaction-naming-strategy' = 'POOLING', 'properties.transaction.timeout.ms' = '60000',
    'properties.linger.ms' = '5'
)"""


class Answer(KeyedProcessFunction):
    """A sample to its event."""

    def __init__(self, weights: str, digest: str) -> None:
        self._given = weights, digest

    def open(self, runtime_context: RuntimeContext) -> None:
        """In the process that computes."""
        self._answers = Answers(*self._given)
        self._state = runtime_context.get_state(ValueStateDescriptor("state", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        """One event for each sample."""
        stream, sample, partition, offset, milliseconds = value
        event, after = self._answers(stream, sample, self._state.value(), partition, offset, milliseconds)
        self._state.update(after)
        yield Row(stream, event.decode())


def main(weights: str, digest: str, connector: str) -> None:
    """Run until SIGTERM."""
    told = {name.removeprefix("CELLSTREAM_").lower(): value for name, value in os.environ.items()}
    store = Path(told["checkpoints"]).absolute()
    configuration = Configuration()
    for name, value in {
        "pipeline.jars": Path(connector).absolute().as_uri(),
        "parallelism.default": "1",
        "state.backend.type": "hashmap",
        "execution.checkpointing.interval": f"{told['commit_interval_ms']} ms",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.storage": "filesystem",
        "execution.checkpointing.dir": store.as_uri(),
        "pipeline.object-reuse": "true",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        # Within the JVM, Python does not know the environment by itself.
        "python.pythonpath": os.pathsep.join([str(Path(__file__).parent), sysconfig.get_path("purelib")]),
        "restart-strategy.type": "none",  # a fault ends the program, which says so
        "python.execution-mode": "thread",
    }.items():
        configuration.set_string(name, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    tables = StreamTableEnvironment.create(environment)
    tables.execute_sql(SAMPLES.format(**told))
    tables.execute_sql(EVENTS.format(**told))
    milliseconds = "1000 * UNIX_TIMESTAMP(CAST(stamp AS STRING)) + EXTRACT(MILLISECOND FROM stamp)"
    samples = tables.to_data_stream(
        tables.sql_query(f"SELECT stream_id, sample, place, place_offset, {milliseconds} AS ms FROM samples")
    )
    events = samples.key_by(lambda sample: sample[0], Types.STRING()).process(
        Answer(weights, digest), Types.ROW_NAMED(["stream_id", "event"], [Types.STRING(), Types.STRING()])
    )
    tables.from_data_stream(events).execute_insert("events").wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
