"""The rules of `deploy/prometheus/` as one PrometheusRule: `python -m deploy.kubernetes.prometheus_rule` writes it.

kustomize cannot put a file into a custom resource, so the rules are there twice; tests/deploy holds one to the other.
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parent / "components" / "prometheus" / "prometheusrule.yaml"
RULES = Path(__file__).parents[1] / "prometheus"

_HEAD = """\
# Written by `python -m deploy.kubernetes.prometheus_rule` from deploy/prometheus/: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: cellstream
spec:
  groups:
"""


def rendered() -> str:
    """The text of the file."""
    text = _HEAD
    for name in ("recording.yml", "alerts.yml"):
        groups = (RULES / name).read_text().partition("\ngroups:\n")[2]
        text += "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
    return text


if __name__ == "__main__":
    FILE.write_text(rendered())
