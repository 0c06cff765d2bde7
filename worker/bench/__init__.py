"""`cellstream bench`: what a record costs here, beside a loop without a model and the loop people write today.

Three processes, each with topics and a group of its own, one broker, the same records:

    passthrough    consume, decode, encode, produce; no model, no state: the transport's limit
    cellstream     the worker as it is deployed: `cellstream run`
    batch-of-one   a stateful Keras model of batch size one, each stream's state swapped in and out

All three read committed records, decode and write the same JSON, and commit outputs and offsets in one transaction
every `commit_interval_ms`. How a lap is timed is in `contestant`, how a backlog appears at one moment in `volley`.
"""
