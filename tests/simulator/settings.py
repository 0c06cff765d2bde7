"""What all simulated workers have in common."""

from __future__ import annotations

from worker.artifact import StateSlot

DIGEST = "0123456789ab" + "0" * 52
TOPIC_ID = "topic-id"
LAYOUT = (StateSlot("leaky_sum", "h", (1,), 0), StateSlot("leaky_sum", "c", (1,), 1))
FEATURES = 2
CAPACITY = 3
IDLE_MS = 15
BUCKETS = [(1, 2), (1, 4), (2, 2), (4, 2), (4, 8)]
GROUP, INPUT, OUTPUT, DEAD_LETTERS = "group", "samples", "probabilities", "dead-letters"
OUTPUT_PARTITIONS = 2
