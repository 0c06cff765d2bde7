"""Probability events and closing events as bytes: one encoder for each wire format.

json          what all of them have alike, and the events in JSON
msgpack       the same fields in MessagePack
registered    events behind the ID of their schema; avro and protobuf are further ones
schema        which schema a deployment's events have
cloud_events  headers beside the value
"""
