"""Laws of decisions: once per sequence, at the first answer that is sure enough, whatever is cut, mixed or restored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.reference import LeakySum
from tests.laws.test_engine import BUCKETS, FEATURES, batch_of, by_sample, cuts, described, logs, published, rules, run
from worker import StreamingModel
from worker.artifact import read_artifact, write_artifact
from worker.codecs import JsonCodec
from worker.decision import DecisionRule
from worker.encoding.encoder import Encoder
from worker.encoding.json import JsonEncoder
from worker.encoding.msgpack import MsgpackEncoder, json_of
from worker.engine import Engine
from worker.errors import ArtifactRefused
from worker.event_writer import EventWriter
from worker.model.tensorflow_setup import setup_tensorflow
from worker.reading import Reader
from worker.state.frozen import COLUMNS
from worker.state.partition import PartitionState

RULE = DecisionRule(("no", 'y"es%'), (0, 2, 5), ((0.9, 0.8), (0.7, 0.75), (0.6, 0.5)))


def decided_along(rule: DecisionRule, answers: np.ndarray) -> list[int]:
    """For each timestep 0, or the number of what is decided there: the rule, read aloud."""
    said, fired = [], False
    for t, answer in enumerate(np.asarray(answers, np.float32)):
        sure = np.array([np.float32(1) - answer[0], answer[0]]) if len(answer) == 1 else answer
        region = sum(t >= begin for begin in rule.from_timesteps) - 1
        winner = int(sure.argmax())
        fires = not fired and sure[winner] >= np.float32(rule.limits[region][winner])
        said.append(winner + 1 if fires else 0)
        fired = fired or fires
    return said


class DecidingSum(LeakySum):
    """The tiny model with a rule behind it: its state has two numbers more, its answer one."""

    state_size, outputs = 4, 2
    initial_state = np.append(LeakySum.initial_state, np.zeros(2, np.float32))

    def step(self, x: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answer, after = super().step(x, states[:, :2])
        count, fired = states[:, 2], states[:, 3]
        region = np.searchsorted(RULE.from_timesteps[1:], count, side="right")
        sure = np.hstack([np.float32(1) - answer, answer])
        winner = sure.argmax(axis=1)
        limits = np.array(RULE.limits, np.float32)[region, winner]
        fires = (sure.max(axis=1) >= limits) & (fired == 0)
        column = np.where(fires, winner + 1, 0).astype(np.float32)
        moved = np.column_stack([after, count + np.float32(1), np.maximum(fired, fires)])
        return np.column_stack([answer, column]), moved.astype(np.float32)

    def run_block(self, inputs: Any, mask: Any, reset: Any, states: Any) -> Any:
        outputs = np.full((*mask.shape, 2), np.nan, np.float32)
        for t in range(len(mask)):
            out, after = self.step(inputs[t], np.where(reset[t][:, None], self.initial_state, states))
            outputs[t] = np.where(mask[t][:, None], out, np.nan)
            states = np.where(mask[t][:, None], after, states)
        return outputs, states


def engine_of(rule: dict[str, Any], encoder: type[Encoder] = JsonEncoder) -> Engine:
    idle = None if rule["idle_ms"] is None else rule["idle_ms"] / 1000
    made = encoder(["yes"], "0123456789ab", RULE.classes)
    reader = Reader(JsonCodec(["x", "y"], 10_000, 100))
    model = DecidingSum(FEATURES, BUCKETS)
    return Engine(model, reader, EventWriter(made, True, rule["per_record"]), "in", rule["sequence_length"], idle)


def state_of(rule: dict[str, Any]) -> PartitionState:
    return PartitionState(0, rule["capacity"], DecidingSum.initial_state, 0)


@given(logs(), cuts, rules)
@settings(max_examples=50, deadline=None)
def test_each_sequence_decides_once_at_the_first_answer_that_is_sure_enough(log: Any, at: list[int], rule: Any) -> None:
    outcomes = run(engine_of(rule), state_of(rule), log, at)
    sequences: dict[str, list[Any]] = {}
    for _, value in published(outcomes):
        event = json.loads(value)
        if "probability" not in event:
            assert "decision" not in event
            continue
        samples = by_sample({name: told for name, told in event.items() if not name.startswith("decision")})
        place = event.get("decision_timestep", event["timestep"])
        assert ("decision_timestep" in event) == ("decision" in event and rule["per_record"])
        for sample in samples:
            told = event.get("decision") if sample["timestep"] == place else None
            sequences.setdefault(event["sequence"], []).append((sample["probability"], told))
    decisions = 0
    for told in sequences.values():
        expected = decided_along(RULE, np.array([[probability] for probability, _ in told]))
        assert [None if not number else RULE.classes[number - 1] for number in expected] == [name for _, name in told]
        decisions += sum(number > 0 for number in expected)
    assert sum(len(column) for outcome in outcomes for column in outcome.decisions) == decisions


@given(logs(), st.integers(0, 40), st.integers(0, 40), cuts, rules)
@settings(max_examples=50, deadline=None)
def test_cuts_and_restores_decide_at_the_same_samples(
    log: Any, checkpoint: int, committed: int, at: list[int], rule: Any
) -> None:
    checkpoint, committed = sorted((min(checkpoint, len(log)), min(committed, len(log))))
    whole = state_of(rule)
    undisturbed = published(run(engine_of(rule), whole, log, []))
    first, saved, restored = state_of(rule), state_of(rule), state_of(rule)
    before = published(run(engine_of(rule), first, log[:committed], at))
    run(engine_of(rule), saved, log[:checkpoint], at)
    frozen = saved.freeze()
    restored.load(frozen.take_ids(0, len(frozen)), **{name: frozen.take(name, 0, len(frozen)) for name in COLUMNS})
    restored.next_offset, restored.stream_time = saved.next_offset, saved.stream_time
    restored.committed = first.next_offset
    after = published(run(engine_of(rule), restored, log[checkpoint:], at))
    assert before + after == undisturbed
    assert described(restored) == described(whole)


@pytest.mark.parametrize("per_record", [False, True])
def test_both_formats_say_the_same(per_record: bool) -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9, "per_record": per_record}
    value = json.dumps({"samples": [[0, 0], [1, 1], [3, 3], [4, 4]]}).encode()
    log = [(b"a", value, 0, 5, None), (b"b", value, 1, 5, None)]
    by_json, by_msgpack = (
        engine_of(rule, encoder).process([(batch_of(log), state_of(rule))]).values
        for encoder in (JsonEncoder, MsgpackEncoder)
    )
    assert [json_of(event) for event in by_msgpack] == by_json
    assert any(b'"decision":"y\\"es%"' in event for event in by_json)


WRONG = {
    "classes": ({"classes": ("no", "maybe")}, "not those of the model"),
    "regions": ({"from_timesteps": (0, 5, 5)}, "do not ascend from timestep 0"),
    "no start": ({"from_timesteps": (1, 2, 5)}, "do not ascend from timestep 0"),
    "rows": ({"limits": ((0.5, 0.5),)}, "not a limit for each class in each region"),
    "columns": ({"limits": ((0.5,),) * 3}, "not a limit for each class in each region"),
    "no number": ({"limits": ((float("nan"), 0.5),) * 3}, "a limit is no number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_rule_that_contradicts_itself_or_the_model_is_named(name: str) -> None:
    change, told = WRONG[name]
    assert not RULE.problems(('y"es%',))
    assert told in " ".join(replace(RULE, **change).problems(('y"es%',)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    setup_tensorflow()
    import keras

    from tests.laws.streamed import sequential

    out = tmp_path_factory.mktemp("artifact")
    model = sequential(keras.layers.GRU(4, return_sequences=True), keras.layers.Dense(3, "softmax"))
    limits = ((0.8, 0.8, 0.8), (0.6, 0.5, 0.55), (0.4, 0.45, 2.0))
    rule = DecisionRule(("a", "b", "c"), (0, 3, 8), limits)
    write_artifact(model, out, features=("x", "y", "z"), classes=rule.classes, decision=rule)
    return out


@pytest.mark.slow
def test_the_step_decides_as_the_rule_says_in_any_company(artifact: Path) -> None:
    from worker.model.parity import run_interleaved
    from worker.model.step_model import load_step_model

    read = read_artifact(artifact)
    rule = read.manifest.decision
    assert rule is not None
    stepped = load_step_model(read)
    rng = np.random.default_rng(6)
    sequences = [rng.standard_normal((n, 3)).astype(np.float32) * 2 for n in (1, 3, 8, 13, 20, 20)]
    answers = run_interleaved(stepped, sequences, stepped.buckets, rng)
    for answer in answers:
        assert answer[:, 3].astype(int).tolist() == decided_along(rule, answer[:, :3])
    assert len({int(answer[:, 3].max()) for answer in answers}) > 1
    model = StreamingModel.load(artifact)
    np.testing.assert_array_equal(model.run(sequences[4]), answers[4][:, :3])
    together, decisions = model.decide_all([*sequences, sequences[0][:0]])
    for said, decision, answer in zip(together, decisions, [*answers, answers[0][:0]], strict=True):
        np.testing.assert_array_equal(said, answer[:, :3])
        fired = decided_along(rule, answer[:, :3])
        at = next((t for t, number in enumerate(fired) if number), None)
        assert decision == (None if at is None else (at, fired[at] - 1))


@pytest.mark.slow
def test_a_rule_is_a_part_of_the_artifact_and_of_its_digest(artifact: Path, tmp_path: Path) -> None:
    read = read_artifact(artifact)
    assert [slot.name for slot in read.manifest.state_layout[-2:]] == ["timesteps", "fired"]
    assert read.manifest.state_size == 4 + 2
    (tmp_path / "model.keras").write_bytes((artifact / "model.keras").read_bytes())
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["decision"]["limits"][0][0] = 0.81
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    assert read_artifact(tmp_path).digest != read.digest
    manifest["decision"]["classes"] = ["a", "b", "d"]
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ArtifactRefused, match="not those of the model"):
        read_artifact(tmp_path)
