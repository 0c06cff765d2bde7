"""Settings: one object from three sources, every problem told at once, delivery out of reach of a pass-through."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import UsageError
from worker.settings import GUARDED, Settings, load_settings


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "cellstream.toml"
    config.write_text(
        'group_id = "file"\ninput_topic = "file"\noutput_topic = "file-out"\n[kafka]\n"client.rack" = "a"\n'
    )
    env = {
        "CELLSTREAM_GROUP_ID": "env",
        "CELLSTREAM_INPUT_TOPIC": "env",
        "CELLSTREAM_KAFKA__CLIENT_RACK": "b",
        "HOME": "/",
    }
    settings = load_settings({"group_id": "flag"}, env, config)
    assert (settings.group_id, settings.input_topic, settings.output_topic) == ("flag", "env", "file-out")
    assert settings.kafka_conf() == {"bootstrap.servers": "localhost:9092", "client.rack": "b"}


def test_every_problem_is_reported_with_its_source_and_its_remedy(tmp_path: Path) -> None:
    config = tmp_path / "cellstream.toml"
    config.write_text("commit_interval_mss = 5\n")
    env = {"CELLSTREAM_GROP_ID": "x", "CELLSTREAM_DELIVERY": "maybe", "CELLSTREAM_KAFKA__ACKS": "1"}
    with pytest.raises(UsageError) as told:
        load_settings({"commit_interval_ms": "0", "stream_id_from": "value"}, env, config)
    text = str(told.value)
    for part in (
        "CELLSTREAM_GROP_ID: no such setting; did you mean CELLSTREAM_GROUP_ID?",
        "commit_interval_mss: no such setting; did you mean commit_interval_ms?",
        "--commit-interval-ms: Input should be greater than or equal to 1, received '0'",
        "CELLSTREAM_DELIVERY",
        "--stream-id-from",
        "kafka.acks is not yours to set: set delivery",
    ):
        assert part in text


@pytest.mark.parametrize("name", sorted(GUARDED))
def test_a_property_that_delivery_rests_on_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        load_settings({"kafka": {name: "x"}}, {}, None)


def test_settings_are_frozen_and_topics_differ() -> None:
    with pytest.raises(UsageError, match="three different topics"):
        load_settings({"output_topic": "samples"}, {}, None)
    with pytest.raises(ValueError, match="frozen"):
        Settings().group_id = "other"  # type: ignore[misc]


def test_a_file_that_cannot_be_read_is_a_problem_and_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml"):
        load_settings({}, {}, tmp_path / "nowhere.toml")
