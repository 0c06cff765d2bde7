"""Hold a deployment at rest to all the laws: the one call that scenarios make when their work is done."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from tests.chaos.checker.broker import open_transactions
from tests.chaos.checker.checkpoints import Checkpoint, alike, held, load_all, states_at
from tests.chaos.checker.contract import read_input
from tests.chaos.checker.expected import expect
from tests.chaos.checker.keras_reference import Answers, keras_reference
from tests.chaos.checker.laws import Numbers, check, source_of
from tests.chaos.checker.reading import committed_offsets, dead_letter, output, partitions_of, read_all
from tests.chaos.checker.records import DeadLetter, Input, Output, Rules, Source, Violation
from tests.chaos.checker.report import report
from tests.chaos.checker.watch import Watch

if TYPE_CHECKING:
    from tests.deployment import Deployment

SETTLED_S = 60.0  # a killed worker's transaction is aborted by the broker after ten seconds
MOST_CHECKPOINTS = 200


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run over the same input left: its outputs, and its checkpoints."""

    outputs: Sequence[Output]
    checkpoints: Sequence[Checkpoint] = field(default_factory=list)

    @classmethod
    def of(cls, deployment: Deployment) -> Reference:
        """Of a deployment at rest."""
        partitions = partitions_of(deployment.cluster, deployment.output_topic)
        outputs = list(map(output, read_all(deployment.cluster, deployment.output_topic, partitions)))
        return cls(outputs, list(load_all(_files(deployment))))


def hold(
    deployment: Deployment,
    inputs: Iterable[Input] | None = None,
    *,
    watch: Watch | None = None,
    reference: Reference | Sequence[Output] | None = None,
    complete: bool = True,
    numbers: bool = True,
    checkpoints: bool = True,
    anew: Mapping[int, int] | None = None,
) -> list[Violation]:
    """Read everything that a deployment has left, hold it to the laws, and print a report of what is broken.

    No worker may run. The input topic is read and understood by the checker itself.

    Args:
        deployment: at rest.
        inputs: what was published; needed for records that the topic has lost, and for those that the publisher alone
            can judge (`refused`). The rest is compared with what the topic holds.
        watch: closed; its observations are held to the laws, too.
        reference: of an undisturbed run, to compare with to the bit.
        complete: every record must be committed; otherwise those below the committed offsets are answered, and none
            above them.
        numbers: compare with Keras. Not where the model was changed on the way.
        checkpoints: compare the files of the store. Not where the test has put its own there.
        anew: offsets at which a policy of the operator let the streams of a partition begin anew.

    Returns:
        All broken laws.
    """
    rules = Rules.of(deployment.flags, anew)
    cluster, topic = deployment.cluster, deployment.input_topic
    violations = _open_transactions(deployment)
    if any(violation.law == "open" for violation in violations):
        return _reported(violations, deployment)
    everything = merged(read_inputs(deployment, rules), inputs)
    outputs = list(map(output, read_all(cluster, deployment.output_topic, _count(deployment.output_topic, deployment))))
    letters = list(
        map(
            dead_letter,
            read_all(cluster, deployment.dead_letter_topic, _count(deployment.dead_letter_topic, deployment)),
        )
    )
    committed = committed_offsets(cluster, deployment.group_id, topic, _count(topic, deployment))
    answered = [record for record in everything if record.offset < committed[record.partition]]
    if complete:
        violations += _all_committed(everything, committed)
    refused = {letter.source for letter in letters}
    expected = expect(answered, refused, rules)
    answers = _answers(deployment, expected.samples) if numbers and expected.samples else None
    if reference is not None and not isinstance(reference, Reference):
        reference = Reference(reference)
    violations += check(
        answered,
        outputs,
        None if reference is None else reference.outputs,
        letters,
        rules=rules,
        numbers=None if answers is None else Numbers(answers.probabilities, _tolerance(deployment)),
        topic=topic,
    )
    if watch is not None:
        violations += watch.violations(outputs, letters)
    if checkpoints:
        remembered = [record for record in answered if not record.refused and record.source not in refused]
        violations += _checkpoints(deployment, watch, reference, remembered, committed, rules, answers)
    return _reported(violations, deployment, watch, outputs, letters)


def merged(read: Iterable[Input], published: Iterable[Input] | None) -> list[Input]:
    """The input as the topic has it, and as its publisher knows it where the topic does not.

    Raises:
        AssertionError: the two contradict each other: then the test is wrong, or the topic was changed.
    """
    found = {record.source: record for record in read}
    for record in published or ():
        here = found.get(record.source)
        if here is None or record.refused:
            found[record.source] = record
        else:
            said, says = ((r.stream, r.count, r.is_end, bool(r.refused)) for r in (record, here))
            assert said == says, f"published was {record}, the topic has {here}"
    return sorted(found.values(), key=lambda record: record.source)


def read_inputs(deployment: Deployment, rules: Rules) -> list[Input]:
    """The input topic as it is now, understood by the contract."""
    features = keras_features(deployment.artifact)
    messages = read_all(deployment.cluster, deployment.input_topic, _count(deployment.input_topic, deployment))
    return [read_input(message, features, rules) for message in messages]


def keras_features(artifact: Path) -> tuple[str, ...]:
    """The input's columns, by the manifest."""
    return tuple(json.loads((artifact / "manifest.json").read_text())["features"])


def _answers(deployment: Deployment, samples: Mapping[str, Sequence[Sequence[float]]]) -> Answers:
    return keras_reference(deployment.artifact).answers(samples)


def _tolerance(deployment: Deployment) -> float:
    return keras_reference(deployment.artifact).tolerance


def _count(topic: str, deployment: Deployment) -> int:
    return partitions_of(deployment.cluster, topic)


def _open_transactions(deployment: Deployment) -> list[Violation]:
    """None is left when all workers are gone, as soon as the broker has aborted those of killed ones."""
    topics = (deployment.output_topic, deployment.dead_letter_topic)
    deadline = time.monotonic() + SETTLED_S
    while True:
        try:
            found = open_transactions(deployment.cluster.conf, topics, f"{deployment.group_id}-")
        except (OSError, KafkaException):  # a broker that has just come back, and is nobody's leader yet
            if time.monotonic() > deadline:
                raise
        else:
            if not found or time.monotonic() > deadline:
                return [Violation("open", None, words) for words in found]
        time.sleep(0.1)


def _all_committed(inputs: Sequence[Input], committed: Sequence[int]) -> list[Violation]:
    ends: dict[int, int] = {}
    for record in inputs:
        ends[record.partition] = max(ends.get(record.partition, 0), record.offset + 1)
    return [
        Violation("unfinished", (partition, committed[partition]), f"committed {committed[partition]}, expected {end}")
        for partition, end in ends.items()
        if committed[partition] != end
    ]


def _checkpoints(
    deployment: Deployment,
    watch: Watch | None,
    reference: Reference | None,
    inputs: Sequence[Input],
    committed: Sequence[int],
    rules: Rules,
    answers: Answers | None,
) -> list[Violation]:
    digest = artifact_digest(deployment.artifact)
    there = _files(deployment)
    files = {(file.parent.name, file.name): file for file in there}
    if watch is not None:
        for file in _spread(sorted(watch.evidence.glob("*/*.h5")), MOST_CHECKPOINTS):
            files.setdefault((file.parent.name, file.name), file)
    loaded = list(load_all(files.values(), digest))
    violations = [
        Violation("ahead", (one.partition, one.offset), f"{one.name[:30]}... is in the store")
        for one in loaded
        if one.offset > committed[one.partition]
    ]
    loaded = [one for one in loaded if one.offset <= committed[one.partition]]
    offsets: dict[int, set[int]] = {}
    for one in loaded:
        offsets.setdefault(one.partition, set()).add(one.offset)
    states = states_at(inputs, offsets, rules)
    with_times = all(record.time_ms is not None for record in inputs)
    for one in loaded:
        violations += held(one, states[one.partition, one.offset], answers, with_times)
    return violations + alike([*(reference.checkpoints if reference is not None else ()), *loaded])


def artifact_digest(artifact: Path) -> str:
    """What checkpoints call an artifact: SHA-256 over its model's digest, features and classes."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    facts = [manifest["model_digest"], manifest["features"], manifest["classes"]]
    return hashlib.sha256(json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def _files(deployment: Deployment) -> list[Path]:
    return sorted((deployment.checkpoints / deployment.group_id / deployment.input_topic).glob("*/*.h5"))


def _spread(files: Sequence[Path], most: int) -> Sequence[Path]:
    """At most so many, from the first to the last."""
    return files if len(files) <= most else [files[i * len(files) // most] for i in range(most)]


def _reported(
    violations: Sequence[Violation],
    deployment: Deployment,
    watch: Watch | None = None,
    outputs: Sequence[Output] = (),
    letters: Sequence[DeadLetter] = (),
) -> list[Violation]:
    """Each violation once, with its time where somebody knows it; printed."""
    if not violations:
        return []
    produced: dict[Source | None, float] = {letter.source: letter.time_ms / 1000 for letter in letters}
    produced.update((source_of(one.value), one.time_ms / 1000) for one in outputs)

    def timed(violation: Violation) -> Violation:
        at_s = violation.at_s or produced.get(violation.source)
        if at_s is None and watch is not None and violation.source is not None:
            at_s = watch.committed_at(violation.source)
        return Violation(violation.law, violation.source, violation.words, at_s)

    found = [timed(violation) for violation in dict.fromkeys(violations)]
    logs = sorted(deployment.directory.glob("*.log"))
    print(report(found, logs), flush=True)
    return found
