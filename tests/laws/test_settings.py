"""Settings: one object from three sources, every problem told at once, delivery out of reach of a pass-through."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import UsageError
from worker.settings.files import masked
from worker.settings.model import GUARDED, Settings
from worker.settings.sources import load_settings


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


def test_a_sampling_ratio_without_spans_is_refused() -> None:
    with pytest.raises(UsageError, match=r"trace_sampling_ratio: .* set trace=spans"):
        load_settings({"trace": "headers", "trace_sampling_ratio": "0.1"}, {}, None)
    assert load_settings({"trace": "spans", "trace_sampling_ratio": "0.1"}, {}, None).trace_sampling_ratio == 0.1


def test_a_file_that_cannot_be_read_is_a_problem_and_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml"):
        load_settings({}, {}, tmp_path / "nowhere.toml")


SECRET = "correct horse/battery=staple"


def test_a_value_may_stand_in_a_file_of_its_own_whatever_names_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    config = tmp_path / "cellstream.toml"
    config.write_text(f'group_id_file = "{secret}"\n[kafka]\n"sasl.password.file" = "{secret}"\n')
    for flags, env, file in (
        ({"kafka": {"sasl.password.file": str(secret)}}, {"CELLSTREAM_GROUP_ID": SECRET}, None),
        ({}, {"CELLSTREAM_KAFKA__SASL_PASSWORD_FILE": str(secret), "CELLSTREAM_GROUP_ID_FILE": str(secret)}, None),
        ({}, {}, config),
    ):
        settings = load_settings(flags, env, file)
        assert (settings.kafka, settings.group_id) == ({"sasl.password": SECRET}, SECRET)
        assert "sasl" not in repr(settings)


def test_a_file_wins_and_loses_as_the_value_itself_would(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the file\n\r\n")
    config = tmp_path / "cellstream.toml"
    config.write_text(f'[kafka]\n"sasl.password.file" = "{secret}"\n')
    assert load_settings({}, {"CELLSTREAM_KAFKA__SASL_PASSWORD": "of the variable"}, config).kafka == {
        "sasl.password": "of the variable"
    }
    config.write_text('[kafka]\n"sasl.password" = "of the TOML"\n')
    assert load_settings({}, {"CELLSTREAM_KAFKA__SASL_PASSWORD_FILE": str(secret)}, config).kafka == {
        "sasl.password": "of the file"
    }


@pytest.mark.parametrize("content", [None, b"", b"\n", b"a\0b", b"\xff\xfe", b"a" * 70_000])
def test_a_file_that_holds_no_value_is_told_without_its_path_which_may_be_the_secret(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / SECRET.replace("/", "")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as told:
        load_settings({}, {"CELLSTREAM_KAFKA__SASL_PASSWORD_FILE": str(path)}, None)
    assert str(told.value).startswith("CELLSTREAM_KAFKA__SASL_PASSWORD_FILE: cannot take the value from that file: ")
    assert path.name not in str(told.value)


def test_a_value_and_its_file_together_are_refused(tmp_path: Path) -> None:
    env = {"CELLSTREAM_KAFKA__SASL_PASSWORD_FILE": str(tmp_path), "CELLSTREAM_KAFKA__SASL_PASSWORD": SECRET}
    with pytest.raises(UsageError, match="SASL_PASSWORD_FILE and CELLSTREAM_KAFKA__SASL_PASSWORD: give one") as told:
        load_settings({}, env, None)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "name", ["sasl.password", "sasl_password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"]
)
def test_a_secret_in_a_command_line_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"no secret belongs into a command line.*\.file=FILE, or set CELLSTREAM_K"
    ) as told:
        load_settings({"kafka": {name: SECRET}}, {}, None)
    assert SECRET not in str(told.value)


def test_librdkafkas_own_file_properties_go_through() -> None:
    env = {"CELLSTREAM_KAFKA__SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE": "/run/key.pem"}
    assert load_settings({}, env, None).kafka == {"sasl.oauthbearer.assertion.private.key.file": "/run/key.pem"}


def test_a_url_is_shown_without_its_password() -> None:
    assert masked("smb://me:secret@host/share") == "smb://me:***@host/share"
    assert masked("s3://bucket/a:b@c") == "s3://bucket/a:b@c"
