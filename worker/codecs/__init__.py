"""Sample values to arrays: one codec for each wire format."""

from worker.codecs.codec import Codec, Decoded, Sample
from worker.codecs.float32 import Float32Codec
from worker.codecs.json import JsonCodec

__all__ = ["Codec", "Decoded", "Float32Codec", "JsonCodec", "Sample"]
