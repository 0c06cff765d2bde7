"""The checker finds every kind of violation that is put in, and nothing where nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from tests.chaos.checker import DeadLetter, Input, Numbers, Output, Rules, Violation, check

STREAMS = [f"stream-{number}".encode() for number in range(7)]


def example(seed: int = 5) -> tuple[list[Input], list[Output]]:
    """Two partitions of interleaved streams with both kinds of ends, and their exact outputs."""
    random = Random(seed)
    inputs: list[Input] = []
    outputs: list[Output] = []
    for partition in range(2):
        state: dict[bytes, tuple[int, int]] = {}
        for offset in range(0, 400, 2):  # every other offset, as transaction markers leave it
            stream = random.choice(STREAMS)
            is_sample, is_end = random.choices([(True, False), (True, True), (False, True)], [20, 2, 1])[0]
            inputs.append(Input(partition, offset, stream, is_sample, is_end))
            if is_sample:
                first, timestep = state.get(stream, (offset, 0))
                event = {
                    "stream_id": stream.decode(),
                    "sequence": f"{partition}-{first}",
                    "timestep": timestep,
                    "probability": random.random(),
                    "source": [partition, offset],
                }
                outputs.append(Output(partition, len(outputs) * 3, stream, json.dumps(event).encode()))
                state[stream] = (first, timestep + 1)
            if is_end:
                state.pop(stream, None)
    return inputs, outputs


def edited(output: Output, **fields: object) -> Output:
    return replace(output, value=json.dumps(json.loads(output.value) | fields).encode())


def swapped(outputs: list[Output]) -> list[Output]:
    """Two neighbours of one stream change places in the log."""
    earlier = outputs[10]
    later = next(output for output in outputs[11:] if output.key == earlier.key)
    places = {earlier: later.offset, later: earlier.offset}
    return [replace(output, offset=places.get(output, output.offset)) for output in outputs]


def stepped_over_reset(outputs: list[Output]) -> list[Output]:
    """A sequence goes on as if its end marker had not been seen."""
    index = next(i for i, output in enumerate(outputs) if i > 50 and json.loads(output.value)["timestep"] == 0)
    before = next(output for output in reversed(outputs[:index]) if output.key == outputs[index].key)
    event = json.loads(before.value)
    return [
        *outputs[:index],
        edited(outputs[index], sequence=event["sequence"], timestep=event["timestep"] + 1),
        *outputs[index + 1 :],
    ]


VIOLATIONS: dict[str, tuple[set[str], Callable[[list[Output]], list[Output]]]] = {
    "one is missing": ({"missing"}, lambda outputs: outputs[:9] + outputs[10:]),
    "the last is missing": ({"missing"}, lambda outputs: outputs[:-1]),
    "one is there twice": ({"doubled"}, lambda outputs: [*outputs, replace(outputs[-1], offset=99_999)]),
    "an old one comes again": (
        {"doubled", "reordered"},
        lambda outputs: [*outputs, replace(outputs[3], offset=99_999)],
    ),
    "two of a stream are swapped": ({"reordered"}, swapped),
    "a number is altered": ({"altered"}, lambda outputs: [edited(outputs[0], probability=0.5), *outputs[1:]]),
    "a number's last bit is altered": (
        {"altered"},
        lambda outputs: [
            replace(outputs[0], value=outputs[0].value.replace(b', "source"', b'1, "source"')),
            *outputs[1:],
        ],
    ),
    "one has no sample": (
        {"foreign"},
        lambda outputs: [*outputs, edited(replace(outputs[-1], offset=99_999), source=[1, 401])],
    ),
    "a reset is missed": ({"misattributed", "altered"}, stepped_over_reset),
    "one has another's key": (
        {"misattributed"},
        lambda outputs: [*outputs[:-1], replace(outputs[-1], key=b"somebody else")],
    ),
    "one is in another partition": ({"split"}, lambda outputs: [*outputs[:-1], replace(outputs[-1], partition=9)]),
    "one is cut off": ({"unreadable", "missing"}, lambda outputs: [replace(outputs[0], value=b'{"str'), *outputs[1:]]),
}


@pytest.mark.parametrize("seed", range(5))
def test_exact_outputs_break_no_law(seed: int) -> None:
    inputs, outputs = example(seed)
    assert check(inputs, outputs, outputs) == []
    Random(seed).shuffle(outputs)  # the laws speak of offsets, not of the order in which they were read
    assert check(inputs, outputs, outputs) == []


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_seeded_violation_is_found_and_named(violation: str) -> None:
    laws, spoil = VIOLATIONS[violation]
    inputs, outputs = example()
    assert {found.law for found in check(inputs, spoil(outputs), outputs)} == laws


def test_dead_letter_stands_for_the_output_and_leaves_its_stream_as_it_was() -> None:
    inputs, outputs = example()
    inputs.insert(51, Input(0, 101, inputs[50].stream))
    assert check(inputs, outputs, outputs, dead_letters=[(0, 101)]) == []
    assert Violation("missing", (0, 101), "no output") in check(inputs, outputs, outputs)


@pytest.mark.parametrize(
    ("law", "letters"),
    [
        ("missing", []),
        ("doubled", [(0, 101), (0, 101)]),
        ("foreign", [(0, 101), (1, 2)]),
        ("unreadable", [(0, 101), None]),
    ],
)
def test_each_refused_record_has_one_dead_letter_and_no_other_has(
    law: str, letters: list[tuple[int, int] | None]
) -> None:
    inputs, outputs = example()
    judged = [replace(record, refused=False) for record in inputs]
    judged.insert(51, Input(0, 101, inputs[50].stream, is_sample=False, refused=True))
    assert check(judged, outputs, outputs, [(0, 101)]) == []
    left = [output for output in outputs if json.loads(output.value)["source"] != [1, 2]]
    found = check(judged, left, None, [DeadLetter(0, i, letter, "samples") for i, letter in enumerate(letters)])
    assert law in {violation.law for violation in found if violation.source in ((0, 101), (1, 2), None)}


def test_a_dead_letter_of_another_topic_is_found() -> None:
    refused = [Input(0, 5, b"x", is_sample=False, refused=True)]
    letter = DeadLetter(0, 0, (0, 5), "samples")
    assert check(refused, [], None, [letter], topic="samples") == []
    assert [v.law for v in check(refused, [], None, [letter], topic="others")] == ["misattributed"]


CHUNK = Input(0, 7, b"a", samples=((1.0,), (2.0,), (3.0,)), is_end=True, end_reason="end_of_sequence", time_ms=50)


def chunk(*timesteps: int, closing: bool = False, timestamp: int = 50) -> list[Output]:
    """Events of a record with three samples."""
    common = {"stream_id": "a", "sequence": "0-7", "source": [0, 7], "timestamp": timestamp}
    events = [common | {"timestep": t, "probability": 0.25 * (t + 1)} for t in timesteps]
    events += [common | {"end_of_sequence": True, "reason": "end_of_sequence", "length": 3}] if closing else []
    return [Output(2, i, b"a", json.dumps(event).encode()) for i, event in enumerate(events)]


def laws_of(outputs: list[Output], rules: Rules | None = None, numbers: Numbers | None = None) -> set[str]:
    return {violation.law for violation in check([CHUNK], outputs, rules=rules or Rules(), numbers=numbers)}


def test_every_sample_of_a_chunk_has_its_event() -> None:
    assert laws_of(chunk(0, 1, 2)) == set()
    assert laws_of(chunk(0, 1)) == {"missing"}
    assert laws_of(chunk(0, 1, 2, 2)) == {"doubled"}
    assert "doubled" in laws_of(chunk(0, 1, 1))
    assert laws_of(chunk(0, 2, 1)) == {"reordered"}
    assert "misattributed" in laws_of(chunk(0, 1, 3))


def test_closing_events_are_held_to_the_same_laws_where_the_deployment_has_them() -> None:
    closing = Rules(closing_events=True)
    assert laws_of(chunk(0, 1, 2, closing=True), closing) == set()
    assert laws_of(chunk(0, 1, 2), closing) == {"missing"}
    assert laws_of(chunk(0, 1, 2, closing=True)) >= {"doubled", "misattributed"}
    assert laws_of(chunk(0, 1, 2)[:2] + chunk(0, 1, 2, closing=True)[-1:], closing) == {"missing"}


def test_events_carry_the_time_of_their_sample() -> None:
    assert laws_of(chunk(0, 1, 2, timestamp=51)) == {"misdated"}


def test_numbers_may_be_as_far_from_keras_as_the_certificate_says_and_no_farther() -> None:
    exact = np.array([[0.25], [0.5], [0.75]], np.float32)
    near, far = exact + np.float32(9e-7), exact + np.float32([[0], [0], [2e-6]])
    assert laws_of(chunk(0, 1, 2), numbers=Numbers({"0-7": exact}, 1e-6)) == set()
    assert laws_of(chunk(0, 1, 2), numbers=Numbers({"0-7": near}, 1e-6)) == set()
    assert laws_of(chunk(0, 1, 2), numbers=Numbers({"0-7": far}, 1e-6)) == {"inexact"}
    nan = np.array([[0.25], [0.5], [np.nan]], np.float32)
    assert laws_of(chunk(0, 1, 2), numbers=Numbers({"0-7": nan}, 1e-6)) == {"inexact"}
    null = [*chunk(0, 1), edited(chunk(0, 1, 2)[2], probability=None)]
    assert laws_of(null, numbers=Numbers({"0-7": nan}, 1e-6)) == set()
    assert laws_of(null, numbers=Numbers({"0-7": exact}, 1e-6)) == {"inexact"}


def test_what_is_answered_above_the_committed_offset_is_foreign() -> None:
    inputs, outputs = example()
    committed = [200, 300]
    below = [record for record in inputs if record.offset < committed[record.partition]]
    found = check(below, outputs)
    assert {violation.law for violation in found} == {"foreign"}
    assert all(v.source is not None and v.source[1] >= committed[v.source[0]] for v in found)
