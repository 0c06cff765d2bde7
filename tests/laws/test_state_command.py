"""Laws of `cellstream state`: it says what is in the store, harms no terminal, and removes nothing unasked."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.checkpoints.snapshots import LAYOUT, TOPIC, make_snapshot
from worker import cli
from worker.checkpoint import CheckpointStore
from worker.state.sequences import sequence_id

HOSTILE = b"evil\x1b[2J\n\xe2\x80\xae\xff"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_state(*arguments: str) -> Ended:
        place = ["--checkpoints", str(tmp_path), "--group-id", "group", "--input-topic", TOPIC]
        monkeypatch.setattr("sys.argv", ["cellstream", "state", arguments[0], *place, *arguments[1:]])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return Ended(int(ended.value.code or 0), output.out, output.err)

    return run_state


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """Two partitions; the newest checkpoint of the first is damaged."""
    store = CheckpointStore(str(tmp_path), "group", LAYOUT)
    now_ms = int(time.time() * 1000)
    for offset in (40, 50):
        store.write(make_snapshot(offset, created_ms=now_ms - 90_000))
    damaged = store.write(make_snapshot(60))
    Path(damaged.path).write_bytes(b"damaged")
    store.write(make_snapshot(70, [b"=1+1", HOSTILE, b"a,b"], partition=2, created_ms=now_ms))
    return store


def test_ls_shows_each_checkpoint_and_whether_it_is_valid(run: Run, store: CheckpointStore) -> None:
    ended = run("ls", "--json")
    assert ended.code == 0
    rows = json.loads(ended.out)
    assert [(row["partition"], row["next_offset"], row["valid"]) for row in rows] == [
        (0, 60, False),
        (0, 50, True),
        (0, 40, True),
        (2, 70, True),
    ]
    assert [row.get("streams") for row in rows] == [None, 4, 4, 3]
    assert "SHA-256" in rows[0]["damage"]
    assert 90 <= rows[1]["age_s"] < 1000
    assert all(row["size_bytes"] == Path(row["path"]).stat().st_size for row in rows)
    assert [row["partition"] for row in json.loads(run("ls", "--json", "--partition", "2").out)] == [2]

    words = run("ls")
    assert words.code == 0
    for expected in ("partition", "1 min", "yes", "no", "SHA-256", "d1d1d1d1d1d1"):
        assert expected in words.out


def test_empty_store_is_no_failure_and_is_said(run: Run) -> None:
    assert run("ls") == Ended(0, "", run("ls").err)
    assert "no checkpoints of group group, topic samples" in run("ls").err
    assert json.loads(run("ls", "--json").out) == []
    assert run("export") == Ended(0, "", "")
    assert run("reset").code == 0


def test_show_reads_the_newest_valid_checkpoint(run: Run, store: CheckpointStore) -> None:
    ended = run("show", "bb", "--json")
    assert ended.code == 0
    snapshot = make_snapshot(50)
    (row,) = json.loads(ended.out)
    assert row == {
        "stream_id": "bb",
        "partition": 0,
        "sequence": "0-2.1",
        "timesteps": 6,
        "start_offset": 2,
        "last_offset": 3,
        "last_time_ms": 1_700_000_000_001,
        "state_norm": float(np.linalg.norm(snapshot.states[1])),
        "next_offset": 50,
        "model": "d1" * 6,
    }
    assert "timesteps" in run("show", "bb").out


def test_sequence_is_called_as_in_the_events(run: Run, store: CheckpointStore) -> None:
    for stream_id, row in (("a", 0), ("bb", 1)):
        snapshot = make_snapshot(50)
        expected = sequence_id(0, int(snapshot.starts[row]), int(snapshot.start_samples[row])).decode()
        assert json.loads(run("show", stream_id, "--json").out)[0]["sequence"] == expected


def test_unknown_stream_fails_and_says_where_it_was_looked_for(run: Run, store: CheckpointStore) -> None:
    ended = run("show", "no\x1b[2Jbody")
    assert ended.code == 1
    assert r"no live stream 'no\x1b[2Jbody'" in ended.err.replace("\\\\", "\\")
    assert "\x1b[2J" not in ended.err


def test_export_has_every_live_stream_in_both_forms(run: Run, store: CheckpointStore) -> None:
    lines = [json.loads(line) for line in run("export", "--json", "--states").out.splitlines()]
    assert [line["partition"] for line in lines] == [0] * 4 + [2] * 3
    assert [line["stream_id"] for line in lines[:4]] == ["a", "bb", "", "żółw"]
    np.testing.assert_array_equal([line["state"] for line in lines[:4]], make_snapshot().states)

    rows = list(csv.DictReader(io.StringIO(run("export", "--states").out)))
    assert [row["stream_id"] for row in rows] == [line["stream_id"] for line in lines]
    assert [float(row["state_6"]) for row in rows] == [line["state"][6] for line in lines]
    assert [int(row["timesteps"]) for row in rows] == [line["timesteps"] for line in lines]
    assert len(run("export", "--partition", "2").out.splitlines()) == 1 + 3 + 1, "a line break in an ID is quoted"


def test_no_command_shows_a_terminal_what_an_id_wants(run: Run, store: CheckpointStore, tmp_path: Path) -> None:
    from worker.commands.state_view import export_streams

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for as_json in (True, False):
        terminal = Terminal()
        export_streams(store, TOPIC, [2], terminal, states=False, as_json=as_json)
        assert "\x1b" not in terminal.getvalue()
        assert "\u202e" not in terminal.getvalue()
        assert len(terminal.getvalue().splitlines()) == 3 + (not as_json)


def test_reset_without_yes_refuses_says_what_would_go_and_removes_nothing(run: Run, store: CheckpointStore) -> None:
    before = json.loads(run("ls", "--json").out)
    ended = run("reset")
    assert ended.code == 3
    assert "4 checkpoints" in ended.err
    assert "partitions 0, 2" in ended.err
    assert "--yes" in ended.err
    planned = run("reset", "--json", "--partition", "0")
    assert planned.code == 3
    assert [(row["next_offset"], row["removed"]) for row in json.loads(planned.out)] == [
        (60, False),
        (50, False),
        (40, False),
    ]
    after = json.loads(run("ls", "--json").out)
    assert [row["path"] for row in after] == [row["path"] for row in before]


def test_reset_removes_what_was_named_and_nothing_else(run: Run, store: CheckpointStore, tmp_path: Path) -> None:
    other = CheckpointStore(str(tmp_path), "other", LAYOUT)
    kept = [other.write(make_snapshot(40)), store.write(make_snapshot(40, topic="another"))]
    assert run("reset", "--partition", "0", "--yes").code == 0
    assert store.refs(TOPIC, 0) == []
    assert len(store.refs(TOPIC, 2)) == 1
    ended = run("reset", "--yes", "--json")
    assert ended.code == 0
    assert [row["removed"] for row in json.loads(ended.out)] == [True]
    assert store.refs(TOPIC, 2) == []
    assert [other.refs(TOPIC, 0), store.refs("another", 0)] == [[kept[0]], [kept[1]]]
    assert "removed 0 checkpoints" in run("reset", "--yes").out


def test_help_of_each_command_has_an_example(run: Run) -> None:
    for name in ("ls", "show", "export", "reset"):
        ended = run(name, "--help")
        assert ended.code == 0
        assert f"cellstream state {name}" in ended.out
