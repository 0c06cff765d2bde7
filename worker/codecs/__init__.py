"""Sample values to arrays: one codec for each wire format."""

from worker.codecs.codec import Codec, Decoded, Missing, Sample, timestep_of
from worker.codecs.float32 import Float32Codec
from worker.codecs.json import JSON, JsonCodec
from worker.codecs.mapped import MappedCodec
from worker.codecs.msgpack import MSGPACK, MsgpackCodec
from worker.codecs.stream_ids import StreamIdField

__all__ = [
    "JSON",
    "MSGPACK",
    "Codec",
    "Decoded",
    "Float32Codec",
    "JsonCodec",
    "MappedCodec",
    "Missing",
    "MsgpackCodec",
    "Sample",
    "StreamIdField",
    "timestep_of",
]
