"""Crash safety: fail at every effect, restart, and the topics hold what an undisturbed worker would have written."""

from __future__ import annotations

import itertools
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.scripted import Cluster, Crash, Script
from tests.laws.scripted_worker import (
    RULE,
    Stop,
    faults,
    live,
    sizes,
    topic_of,
    undisturbed,
    worker_on,
)
from tests.laws.test_engine import described, engine_of, logs, published, run, state_of
from worker.checkpoint import AnySnapshot, CheckpointRef
from worker.dead_letters import BadRecordLimit
from worker.errors import CommitPostponed, FatalFault, StateRefused, TransientFault
from worker.kafka import Survey
from worker.loop import Worker
from worker.records import NO_TIMESTAMP, RecordBatch
from worker.recovery.restoring import AGAIN_S
from worker.recovery.start import Log


@given(st.lists(logs(), min_size=1, max_size=3), faults, sizes)
@settings(max_examples=60, deadline=None)
def test_any_faults_at_any_effect_leave_the_outputs_of_an_undisturbed_run(
    logs_: list[list[Any]], script: dict[int, str], sizes: list[int]
) -> None:
    topic = topic_of(logs_)
    cluster = Cluster(topic)
    with tempfile.TemporaryDirectory() as directory:
        live(cluster, Script(script), directory, sizes)
    by_partition = lambda outputs: sorted(outputs, key=lambda pair: pair[1].split(b'"source":[')[1][:2])  # noqa: E731
    assert by_partition(cluster.outputs) == by_partition(undisturbed(topic))
    assert len(set(cluster.refused)) == len(cluster.refused)


LOG = [(b"abc"[i % 3 : i % 3 + 1], b'{"features":[%d,1]}' % i, i, i, None) for i in range(12)]


@pytest.mark.parametrize("kind", ["crash", "abort", "crash_after", "stale"])
def test_one_fault_at_each_effect_in_turn_loses_and_doubles_nothing(kind: str) -> None:
    topic = topic_of([LOG])
    expected = undisturbed(topic)
    for effect in range(1, 40):
        cluster = Cluster(topic)
        live(cluster, Script({effect: kind}), f"memory://{uuid.uuid4()}", [3])
        assert cluster.outputs == expected, f"{kind} at effect {effect}"


def test_a_commit_between_two_generations_of_the_group_replays_nothing() -> None:
    topic = topic_of([LOG])
    expected = undisturbed(topic)
    for effect in range(1, 40):
        cluster = Cluster(topic)
        worker = worker_on(cluster, Script({effect: "stale"}), f"memory://{uuid.uuid4()}", [3])
        recovered: list[TransientFault] = []
        worker.recover = recovered.append  # type: ignore[method-assign]
        worker.startup()
        worker.run(Stop(cluster))
        assert cluster.outputs == expected, f"stale at effect {effect}"
        assert not any(isinstance(fault, CommitPostponed) for fault in recovered)


def test_shutdown_leaves_checkpoints_of_the_reference_state_at_the_committed_offset() -> None:
    topic = topic_of([LOG, LOG[:5]])
    cluster, url = Cluster(topic), f"memory://{uuid.uuid4()}"
    live(cluster, Script({}), url, [2])
    for partition, batch in topic.items():
        state = state_of(RULE)
        run(
            engine_of(RULE),
            state,
            [
                (k, v, o, t, None)
                for k, v, o, t in zip(batch.keys, batch.values, batch.offsets, batch.times, strict=True)
            ],
            [],
        )
        keeper = worker_on(cluster, Script({}), url, [2]).keeper
        committed = cluster.committed[partition]
        bounds = Log("samples", partition, "topic-id", 0, cluster.high(partition), committed, len(cluster.logs), None)
        restored, start = keeper.load(bounds)
        assert start.next_offset == cluster.committed[partition].offset == cluster.high(partition)
        assert described(restored) == described(state)


def test_a_planned_stop_answers_while_it_saves() -> None:
    topic = topic_of([LOG])
    cluster = Cluster(topic)
    worker = worker_on(cluster, Script({}), f"memory://{uuid.uuid4()}", [6])
    store = worker.keeper._writer.store
    write, deadline = store.write, time.monotonic() + 60

    def write_when_all_is_answered(snapshot: AnySnapshot) -> CheckpointRef:
        while not cluster.at_rest() and time.monotonic() < deadline:
            time.sleep(0.001)
        return write(snapshot)

    store.write = write_when_all_is_answered  # type: ignore[method-assign]
    worker.startup()
    worker.turn()
    worker.turn()
    assert 0 < len(cluster.outputs) < len(LOG)
    worker.shutdown()
    assert cluster.outputs == undisturbed(topic)
    assert [ref.next_offset for ref in store.refs("samples", 0)][:1] == [len(LOG)]


def test_unsaved_records_are_those_that_a_restore_would_step() -> None:
    cluster, url = Cluster(topic_of([LOG])), f"memory://{uuid.uuid4()}"

    def unsaved(worker: Worker) -> float | None:
        return worker.observer.metrics.registry.get_sample_value("cellstream_unsaved_records", {"partition": "0"})

    def start() -> Worker:
        worker = worker_on(cluster, Script({}), url, [6])
        worker.observer._clock = itertools.count(0, 2).__next__  # the gauges are set in every turn
        worker.startup()
        return worker

    worker, saves = start(), Event()
    store = worker.keeper._writer.store
    write = store.write

    def write_when_told(snapshot: AnySnapshot) -> CheckpointRef:
        assert saves.wait(60)
        return write(snapshot)

    store.write = write_when_told  # type: ignore[method-assign]
    worker.run(Stop(cluster))
    assert unsaved(worker) == len(LOG)
    saves.set()
    for _ in range(3):  # what is due once more, and what that has left
        assert worker.keeper.wait(60)
        worker.turn()
    (newest, *_) = store.refs("samples", 0)
    assert unsaved(worker) == len(LOG) - newest.next_offset
    worker.fail()
    successor = start()
    while 0 not in successor.states or successor.states[0].next_offset < len(LOG):
        successor.turn()
    assert unsaved(successor) == len(LOG) - newest.next_offset
    successor.fail()


def test_a_partition_that_goes_is_saved_where_that_spares_its_next_owner_more_than_it_takes() -> None:
    cluster = Cluster(topic_of([LOG]))
    keeper = worker_on(cluster, Script({}), f"memory://{uuid.uuid4()}", [6]).keeper
    state = state_of(RULE)
    run(engine_of(RULE), state, LOG, [])
    state.committed = state.next_offset = 10_000_000
    assert keeper.is_worth_saving(state), "nothing was saved of it yet"
    for write_s, replayed, worth in [
        (0.1, 0, True),
        (5.0, 10, False),
        (5.0, 9_000_000, True),
        (100.0, 9_000_000, False),
    ]:
        keeper._written_per_s = state.size_bytes / write_s
        keeper._timetable.taken(state.partition, state.committed - replayed, 0.0)
        assert keeper.is_worth_saving(state) is worth, (write_s, replayed)


def test_a_state_of_another_model_is_refused_and_says_what_to_do() -> None:
    topic = topic_of([LOG])
    cluster, url = Cluster(topic), f"memory://{uuid.uuid4()}"
    live(cluster, Script({}), url, [4])
    worker = worker_on(cluster, Script({}), url, [4])
    worker.keeper._digest = "f" * 64
    worker.startup()
    with pytest.raises(StateRefused, match="on_model_change"):
        worker.run(Stop(Cluster({0: topic[0]})))


def test_what_an_old_answer_of_the_broker_contradicts_is_asked_for_again_before_it_is_refused() -> None:
    topic = topic_of([LOG, LOG])
    cluster, url = Cluster(topic), f"memory://{uuid.uuid4()}"
    first = worker_on(cluster, Script({}), url, [2])
    first.startup()
    for _ in range(6):
        first.turn()
    first.source.sizes = itertools.repeat(0)  # type: ignore[attr-defined]  # it answers on while its checkpoint is written
    first.shutdown()
    assert 0 < len(cluster.outputs) < 2 * len(LOG)
    worker = worker_on(cluster, Script({}), url, [2])
    survey, asked = worker.source.survey, []

    def stopped_in_between(partitions: Sequence[int]) -> Survey:
        """The first answer is of a time before the group had committed anything."""
        asked.append(partitions)
        found = survey(partitions)
        return replace(found, committed={}) if len(asked) == 1 else found

    worker.source.survey = stopped_in_between  # type: ignore[method-assign]
    worker.startup()
    worker.run(Stop(cluster))
    worker.shutdown()
    assert sorted(cluster.outputs) == sorted(undisturbed(topic))
    assert len(asked) > 1


def test_a_broker_that_does_not_answer_is_left_alone_for_a_while() -> None:
    cluster = Cluster(topic_of([LOG]))
    worker = worker_on(cluster, Script({}), f"memory://{uuid.uuid4()}", [3])
    asked: list[float] = []

    def silent(partitions: Sequence[int]) -> Survey:
        asked.append(worker.clock())
        raise TransientFault("no answer")

    worker.source.survey = silent  # type: ignore[method-assign]
    worker.startup()
    for _ in range(200):
        worker.turn()
    assert len(asked) > 3
    assert min(later - earlier for earlier, later in itertools.pairwise(asked)) >= AGAIN_S


@pytest.mark.parametrize(("takes_s", "apart_s"), [(0.0, 0.1), (0.03, 0.1), (0.5, 0.55)])
def test_commits_begin_an_interval_apart_unless_they_take_longer_than_half_of_it(
    takes_s: float, apart_s: float
) -> None:
    cluster = Cluster(topic_of([[(b"a", b'{"features":[1,1]}', i, i, None) for i in range(2_000)]]))
    worker = worker_on(cluster, Script({}), f"memory://{uuid.uuid4()}", [1])
    worker.source.rebalance_every = 1_000_000  # type: ignore[attr-defined]
    now, begun = 0.0, []
    worker.clock = lambda: now
    worker.commit_interval_s = 0.1
    commit = worker.sink.commit

    def slow(*arguments: Any) -> None:
        nonlocal now
        begun.append(now)
        now += takes_s
        commit(*arguments)

    worker.sink.commit = slow  # type: ignore[method-assign]
    worker.startup()
    while len(begun) < 6:
        worker.turn()
        now += 0.001
    assert [b - a for a, b in itertools.pairwise(begun[1:])] == pytest.approx([apart_s] * 4, abs=0.0021)


@pytest.mark.parametrize("effect", [9, 12, 15, 18, 21])
def test_a_commit_that_only_renews_the_note_leaves_the_offset_while_records_are_replayed(effect: int) -> None:
    topic = topic_of([LOG])
    cluster, url = Cluster(topic), f"memory://{uuid.uuid4()}"
    crashed = worker_on(cluster, Script({effect: "crash"}), url, [2])
    crashed.keeper._timetable.interval_records = None  # no checkpoint: all of it is to be replayed
    crashed.startup()
    with pytest.raises(Crash):
        crashed.run(Stop(cluster))
    for partition, position in cluster.committed.items():
        cluster.committed[partition] = replace(position, note=position.note.replace("partitions=1", "partitions=0"))
    grown = worker_on(cluster, Script({}), url, [2], on_new_partitions="continue")
    grown.startup()
    grown.run(Stop(cluster))
    assert cluster.outputs == undisturbed(topic)
    assert cluster.committed[0].note.endswith("partitions=1")


def test_too_many_bad_records_stop_the_worker_and_commit_nothing_of_them() -> None:
    bad = RecordBatch(0, [b"a"] * 2000, [b"x"] * 2000, list(range(2000)), [NO_TIMESTAMP] * 2000)
    cluster = Cluster({0: bad})
    worker = worker_on(cluster, Script({}), f"memory://{uuid.uuid4()}", [100])
    worker.limit = BadRecordLimit(0.5)
    worker.startup()
    with pytest.raises(FatalFault, match="max_bad_ratio"):
        worker.run(Stop(cluster))
    worker.fail()
    assert cluster.committed[0].offset == len(cluster.refused) < 2000


def test_published_is_what_the_engine_made_of_each_poll() -> None:
    topic = topic_of([LOG])
    cluster = Cluster(topic)
    live(cluster, Script({}), f"memory://{uuid.uuid4()}", [5, 1])
    assert cluster.outputs == published(run(engine_of(RULE), state_of(RULE), LOG, [4]))
