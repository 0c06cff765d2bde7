"""Records in by `Source`, outputs and offsets out by `Sink`: the only users of confluent_kafka's data path.

The client's exceptions are translated here into the reactions of `worker.errors`, and its messages into columns.
"""

from worker.kafka.copies import CopySink
from worker.kafka.sink import FlushingSink, Sink
from worker.kafka.source import Listener, Source
from worker.kafka.survey import Survey
from worker.kafka.transaction import TransactionalSink

__all__ = ["CopySink", "FlushingSink", "Listener", "Sink", "Source", "Survey", "TransactionalSink"]
