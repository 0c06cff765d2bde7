"""The dashboard as code: `python -m deploy.grafana.dashboard` writes `cellstream.json` beside it.

`panels.py` says what is shown; places and everything that Grafana wants beside it are filled in here. tests/deploy
holds the file to this script, and every query against a real Prometheus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.grafana.panels import ROWS, Panel

FILE = Path(__file__).with_name("cellstream.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8  # Grafana's grid; a panel's height


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []})
        top, left = top + 1, 0
        for panel in row:
            if left + panel.width > WIDTH:
                top, left = top + _height(row), 0
            panels.append(_panel(panel, {"x": left, "y": top, "w": panel.width, "h": _height(row)}))
            left += panel.width
        top += _height(row)
    for number, drawn in enumerate(panels, 1):
        drawn["id"] = number
    return {
        "uid": "cellstream",
        "title": "cellstream",
        "description": "Workers for recurrent models on Kafka. Metrics: docs/metrics.md; alerts: docs/runbook.md.",
        "tags": ["cellstream", "kafka"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source_choice(), *map(_choice, ("namespace", "job", "instance"))]},
        "panels": panels,
    }


def _height(row: list[Panel]) -> int:
    return 4 if all(panel.kind == "stat" for panel in row) else HEIGHT


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expression, "legendFormat": legend or "__auto"}
        for number, (legend, expression) in enumerate(panel.queries.items())
    ]
    if panel.kind == "heatmap":
        targets = [{**target, "format": "heatmap"} for target in targets]
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind != "heatmap":
        defaults["min"] = 0
    if panel.kind == "stat":
        defaults["noValue"] = "none"
    if panel.most is not None:
        defaults["max"] = panel.most
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"colorMode": "none", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "auto"},
    "heatmap": {"calculate": False, "color": {"mode": "scheme", "scheme": "Blues"}, "yAxis": {"unit": "s"}},
}


def _source_choice() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _choice(label: str) -> dict[str, Any]:
    """A choice of one label; `All` matches a label that is not there, too, as the namespace outside of Kubernetes."""
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values(cellstream_ready, {label})", "refId": label},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def rendered() -> str:
    """The text of the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(rendered())
