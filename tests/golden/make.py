"""How the golden files were made: by the code of an earlier commit, in the environment of its day.

    mkdir /tmp/former && git archive COMMIT worker | tar -x -C /tmp/former
    PYTHONPATH=/tmp/former .venv/bin/python -P tests/golden/make.py tests/golden/COMMIT

An LSTM with random weights answers two streams; in the middle of their sequences a checkpoint is taken of them. What it
answered before and afterwards is in `expected.json`, with the notes that a commit of that day would have had. Optional
columns, decisions, packed files and pointers are there from the commit on that brought them.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, CLASSES = ("x", "y", "z"), ("positive",)
IDS = [b"pump-1", "żółw".encode()]
TIMESTEPS, CUT = 12, 7
OFFSET = 100
TOPIC, TOPIC_ID, GROUP = "samples", "3Jc5hV2kQ1uJ8yqEo0m3Rg", "group"
KEY = bytes(range(32))


def inputs() -> np.ndarray[Any, np.dtype[np.float32]]:
    """`(2, TIMESTEPS, 3)` float32: the samples of both streams."""
    return np.sin(np.arange(len(IDS) * TIMESTEPS * len(FEATURES), dtype=np.float32)).reshape(len(IDS), TIMESTEPS, -1)


def columns() -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """What a checkpoint has of each stream beside its state; every number is another."""
    row = np.arange(len(IDS), dtype=np.int64)
    return {
        "timesteps": row * 0 + CUT,
        "starts": 10 + row,
        "start_samples": row * 3,
        "times": 1_700_000_000_000 + row,
        "offsets": 90 + row,
    }


def extras() -> dict[str, np.ndarray[Any, Any]]:
    """The optional columns."""
    row = np.arange(len(IDS), dtype=np.int64)
    return {"next_timesteps": 20 + row, "seen_timesteps": 30 + row, "last_values": inputs()[:, CUT - 1]}


def main(directory: Path) -> None:
    """Write the files of the code that is imported as `worker`."""
    directory.mkdir(parents=True)
    tensorflow_setup: Any = importlib.import_module("worker.model.tensorflow_setup")
    tensorflow_setup.setup_tensorflow()
    import keras

    artifacts: Any = importlib.import_module("worker.artifact")
    checkpoint: Any = importlib.import_module("worker.checkpoint")
    recovery: Any = importlib.import_module("worker.recovery.start")
    streaming: Any = importlib.import_module("worker.streaming")
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.layers.Input((None, len(FEATURES))),
            keras.layers.LSTM(4, return_sequences=True, bias_initializer="random_normal"),
            keras.layers.Dense(1, activation="sigmoid", bias_initializer="random_normal"),
        ]
    )
    names: dict[str, Any] = {"features": FEATURES, "classes": CLASSES}
    artifact = artifacts.write_artifact(model, directory / "artifact", **names)
    stepped = streaming.StreamingModel.load(directory / "artifact")
    answers, states = stepped.step(inputs()[:, :CUT], stepped.initial_states(len(IDS)))
    later, _ = stepped.step(inputs()[:, CUT:], states)

    def save(folder: str, store: dict[str, Any], **more: Any) -> Any:
        """A checkpoint in a store of its own."""
        layout = artifact.manifest.state_layout
        snapshot = checkpoint.Snapshot(
            topic=TOPIC, topic_id=TOPIC_ID, partition=0, next_offset=OFFSET, leader_epoch=5,
            artifact_digest=artifact.digest, stream_time=1_700_000_000_005, created_ms=1_700_000_001_000,
            stream_ids=IDS, states=states, **columns(), **more,
        )  # fmt: skip
        return checkpoint.CheckpointStore(str(directory / folder), GROUP, layout, **store).write(snapshot)

    ref = save("plain", {})
    model_word = artifact.digest[:12]
    if hasattr(recovery, "note"):
        notes = [recovery.note(7, artifact.digest, TOPIC_ID)]
    else:
        notes = [str(recovery.Note(7, model_word, TOPIC_ID, 4)), str(recovery.Note(None, model_word, TOPIC_ID, 4))]
    if "extras" in checkpoint.Snapshot.__dataclass_fields__:
        save("extras", {}, extras=extras())
        notes.append(str(recovery.Note(7, model_word, TOPIC_ID, 4, "0,17:0-421,18:37-99")))
        packing: Any = importlib.import_module("worker.checkpoint.packing")
        save("packed", {"packing": packing.Packing(compress=True, keys=[KEY])})
        pointer: Any = importlib.import_module("worker.checkpoint.pointer")
        (directory / "newest.json").write_bytes(pointer.Pointer.by("writer", {ref.name: ref.size_bytes}).encode())
        rule: Any = importlib.import_module("worker.decision").DecisionRule
        decision = rule(classes=("negative", "positive"), from_timesteps=(0, 3), limits=((2.0, 2.0), (0.4, 0.4)))
        artifacts.write_artifact(model, directory / "deciding", **names, decision=decision)
        artifacts.write_artifact(model, directory / "narrow", **names, state_dtype="float16")
    expected = {
        "digest": artifact.digest,
        "notes": notes,
        "answers": answers[:, :, 0].tolist(),
        "states": states.tolist(),
        "later": later[:, :, 0].tolist(),
    }
    (directory / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
