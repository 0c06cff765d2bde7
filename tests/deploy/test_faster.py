"""Laws of the faster clock: all times of the shipped rules are divided, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.faster import faster, write_faster
from tests.deploy.tools import answer_of, prometheus_tool


@pytest.mark.parametrize(
    ("expression", "sooner"),
    [
        ("rate(a_total[5m]) > 0.05", "rate(a_total[10000ms]) > 0.05"),
        ("deriv(job:a:sum[15m]) > 0 and rate(b[1h]) > 3", "deriv(job:a:sum[30000ms]) > 0 and rate(b[120000ms]) > 3"),
        ("a_age_seconds > 600 and b > 0", "a_age_seconds > 20 and b > 0"),
        ("a > 60 * job:cellstream_records:rate5m", "a > 2 * job:cellstream_records:rate5m"),
        ("job:a:ratio_rate30m > 14.4 * 0.01", "job:a:ratio_rate30m > 14.4 * 0.01"),
        ('rate(a_bucket{le="60.0"}[30m]) > 1', 'rate(a_bucket{le="60.0"}[60000ms]) > 1'),
    ],
)
def test_times_are_divided_and_names_shares_and_counts_are_not(expression: str, sooner: str) -> None:
    assert faster({"alert": "A", "for": "10m", "expr": expression}, 30) == {
        "alert": "A",
        "for": "20000ms",
        "expr": sooner,
    }


def test_a_number_that_may_be_a_time_is_not_passed_over() -> None:
    with pytest.raises(AssertionError, match="'120'"):
        faster({"alert": "A", "expr": "cellstream_a > 120"}, 30)


def test_prometheus_accepts_the_shipped_rules_on_a_faster_clock(tmp_path: Path) -> None:
    answer_of([prometheus_tool("promtool"), "check", "rules", *write_faster(tmp_path, 30)])
