"""The checker finds every kind of violation that is put in, and nothing where nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from tests.chaos.checker import Input, Output, Violation, check

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
