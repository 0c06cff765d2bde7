"""Laws of metrics and logs: what is scraped is what was counted, documented, bounded and harmless."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from worker.array_histogram import ArrayHistogram
from worker.logs import configure_logging, printable
from worker.metrics import Metrics
from worker.pages.health import Health, pages, serve

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(cellstream_\w+)` \| (\w+) \|([\w ]*)\|([\w` ]*)\| (.+) \| (.+) \|$", re.MULTILINE)


def exercised(now_s: float = 1000.0) -> Metrics:
    """Metrics of which every series has been set once."""
    metrics = Metrics(dead_letter_reasons=["not_json"], reset_reasons=["tombstone"], now=lambda: now_s)
    metrics.samples_total.inc(10)
    metrics.count_dead_letters(["not_json", "not_json", "too_deep"])
    metrics.count_resets({"tombstone": 3})
    metrics.observe_latency([999_000, 999_500, 2_000_000, -1])
    metrics.set_model("ab" * 32, 6, 4, 112)
    metrics.assign(3)
    metrics.set_partition(3, live_streams=7, lag_records=8, unsaved_records=6, retention_margin_s=9.5)
    metrics.set_checkpoint(3, next_offset=50, created_ms=940_000, size_bytes=123)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"cellstream_{name}", labels)


# ---- documentation


def shown_name(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def families() -> dict[str, Metric]:
    found = {shown_name(family): family for family in exercised().registry.collect()}
    return {name: family for name, family in found.items() if name.startswith("cellstream_")}


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    rows = {row[0]: row for row in ROW.findall(DOCUMENT)}
    assert len(rows) == DOCUMENT.count("| `cellstream_"), "a row of docs/metrics.md has not the six cells"
    found = families()
    assert rows.keys() == found.keys()
    for name, (_, kind, unit, labels, *_words) in rows.items():
        assert kind == found[name].type, name
        used = {label for sample in found[name].samples for label in sample.labels} - {"le"}
        assert set(re.findall(r"`(\w+)`", labels)) == used, name
        for suffix in ("seconds", "bytes", "ratio"):
            assert name.endswith(suffix) == (unit.strip() == suffix), name


def test_every_reason_in_the_code_is_documented() -> None:
    sources = [path.read_text() for path in (ROOT / "worker").rglob("*.py")]
    reasons = {reason for source in sources for reason in re.findall(r'BadRecord\(\s*"(\w+)"', source)}
    assert reasons
    assert {reason for reason in reasons if f"`{reason}`" not in DOCUMENT} == set()
    from worker.state.sequences import REASONS

    assert {reason for reason in REASONS if reason and f"`{reason}`" not in DOCUMENT} == set()


def test_attributes_are_called_as_the_metrics_are() -> None:
    metrics = exercised()
    assert {f"cellstream_{name}" for name in vars(metrics)} >= families().keys()


# ---- scraping


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_a_real_client_parses_what_the_http_endpoint_serves(accept: str) -> None:
    server = serve(pages(exercised(), Health()), "127.0.0.1", 0)
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=90) as response:
            text, kind = response.read().decode(), response.headers["Content-Type"]
    finally:
        server.close()
    assert kind.startswith(accept.split(";", maxsplit=1)[0])
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    samples = {
        (sample.name, *sample.labels.values()): sample.value for family in parse(text) for sample in family.samples
    }
    assert samples["cellstream_samples_total",] == 10
    assert samples["cellstream_dead_letters_total", "not_json"] == 2
    assert samples["cellstream_end_to_end_latency_seconds_count",] == 3
    assert samples["cellstream_end_to_end_latency_seconds_bucket", "0.001"] == 1
    assert samples["cellstream_end_to_end_latency_seconds_bucket", "0.5"] == 2
    assert samples["cellstream_end_to_end_latency_seconds_bucket", "+Inf"] == 3
    assert samples["cellstream_end_to_end_latency_seconds_sum",] == 1.5
    assert samples["cellstream_checkpoint_age_seconds", "3"] == 60
    assert any(name.startswith("process_cpu_seconds") for name, *_ in samples)


def test_two_workers_in_one_process_do_not_share_metrics() -> None:
    first, second = exercised(), Metrics()
    assert value(first, "samples_total") == 10
    assert value(second, "samples_total") == 0


def test_reasons_and_kinds_begin_at_zero() -> None:
    metrics = Metrics(dead_letter_reasons=["not_json"], reset_reasons=["tombstone"])
    assert value(metrics, "dead_letters_total", reason="not_json") == 0
    assert value(metrics, "resets_total", reason="tombstone") == 0
    assert value(metrics, "rebalances_total", kind="lost") == 0


# ---- partitions


def partitions_shown(metrics: Metrics) -> set[str]:
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return {sample.labels["partition"] for sample in samples if "partition" in sample.labels}


def test_partition_that_was_released_is_shown_no_more_and_late_news_of_it_are_dropped() -> None:
    metrics = exercised()
    metrics.assign(4)
    assert partitions_shown(metrics) == {"3", "4"}
    metrics.release(3)
    metrics.release(3)
    metrics.set_checkpoint(3, next_offset=60, created_ms=1, size_bytes=1)
    metrics.set_partition(3, live_streams=1, lag_records=2, unsaved_records=4, retention_margin_s=3)
    assert partitions_shown(metrics) == {"4"}


def test_checkpoint_age_grows_without_the_loop_and_begins_at_the_assignment() -> None:
    now_s = 100.0
    metrics = Metrics(now=lambda: now_s)
    metrics.assign(0)
    now_s = 130.0
    assert value(metrics, "checkpoint_age_seconds", partition="0") == 30
    metrics.set_checkpoint(0, next_offset=1, created_ms=125_000, size_bytes=1)
    assert value(metrics, "checkpoint_age_seconds", partition="0") == 5
    now_s = 100.0
    assert value(metrics, "checkpoint_age_seconds", partition="0") == 0, "a clock that was set back"


# ---- the array histogram


@given(
    arrays=st.lists(
        npst.arrays(np.float64, st.integers(0, 50), elements=st.floats(0, 100) | st.sampled_from([0.1, 1.0, 10.0])),
        max_size=5,
    )
)
def test_array_histogram_equals_the_librarys_fed_one_by_one(arrays: list[np.ndarray]) -> None:
    bounds = (0.1, 1.0, 10.0)
    ours, theirs, registry = ArrayHistogram("x", "x", bounds), Histogram("x", "x", registry=None, buckets=bounds), {}
    for array in arrays:
        ours.observe(array)
        for one in array:
            theirs.observe(one)
    for sample in next(iter(theirs.collect())).samples:
        if not sample.name.endswith("_created"):
            registry[sample.name, sample.labels.get("le")] = sample.value
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in next(ours.collect()).samples}
    assert found.keys() == registry.keys()
    for key, expected in registry.items():
        assert found[key] == pytest.approx(expected), key


def test_array_histogram_registers_like_any_other() -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(ArrayHistogram("x_seconds", "x", (1.0,)))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(ArrayHistogram("x_seconds", "x", (1.0,)))


# ---- logs


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.configure(**before)


hostile = st.text() | st.binary() | st.text("\n\r\x1b\x07\u2028\u202e\ufeff\ud800 a", max_size=20)


@given(untrusted=hostile, limit=st.integers(1, 300))
def test_printable_text_is_one_bounded_line_without_control(untrusted: str | bytes, limit: int) -> None:
    shown = printable(untrusted, limit)
    assert len(shown) <= 10 * limit + 3
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", shown)


def test_plain_text_is_shown_as_it_is() -> None:
    assert printable("sensor-7 żółw 心") == "sensor-7 żółw 心"
    assert printable("żółw".encode()) == "żółw"
    assert printable(b"\xff\x1b[2J") == r"\xff\x1b[2J"
    assert printable("\u202eabc") == r"\u202eabc"
    assert printable("x" * 300) == "x" * 256 + "..."


@pytest.mark.usefixtures("restored_logging")
def test_one_event_is_one_line_whatever_is_in_it() -> None:
    output = io.StringIO()
    configure_logging("json", "info", output)
    log = structlog.get_logger("worker.test")
    hostile_id = b'a\n{"level":"info"}\r\x1b[2J\xff'
    log.info("sample", stream=hostile_id, partition=3, offset=10**18, more={"\n": [hostile_id, {"deep": {"er": "\n"}}]})
    log.debug("not shown")
    logging.getLogger("a.library").warning("said %s", "\n\x1b")
    try:
        raise ValueError("bad \x1b[2J\nthing")
    except ValueError:
        log.exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful\nnow", stacklevel=1)
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "error", "warning"]
    assert lines[0]["stream"] == r'a\n{"level":"info"}\r\x1b[2J\xff'
    assert (lines[0]["partition"], lines[0]["offset"], lines[0]["logger"]) == (3, 10**18, "worker.test")
    assert lines[1]["event"] == r"said \n\x1b"
    assert "ValueError" in lines[2]["exception"]
    assert "\x1b" not in output.getvalue()


@pytest.mark.usefixtures("restored_logging")
def test_a_pipe_gets_json_and_a_terminal_gets_words() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    piped, terminal = io.StringIO(), Terminal()
    for output in (piped, terminal):
        configure_logging("auto", "warning", output)
        structlog.get_logger("worker.test").warning("lost", partition=3, stream="\x1b[2J")
        structlog.get_logger("worker.test").info("not shown")
    assert json.loads(piped.getvalue())["event"] == "lost"
    assert "\x1b[2J" not in terminal.getvalue()
    words = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert re.search(r"warning.*lost.*partition.*3", words)
    assert len(words.splitlines()) == 1


def test_these_modules_do_not_wait_for_tensorflow() -> None:
    import subprocess

    code = (
        "import sys, worker.metrics, worker.pages.health, worker.logs, worker.checkpoint, worker.commands.state\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=180, cwd=ROOT)
