"""A running Prometheus: rules and targets go in, what its API says comes out."""

from __future__ import annotations

import json
import os
import signal
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.brokers.process import Process
from tests.deploy.tools import prometheus_tool
from tests.deployment import until

JOB = "cellstream"


class Prometheus:
    """A real Prometheus on a free port; it runs for as long as the context lasts.

    Args:
        directory: empty; for its configuration, data and log.
        rules: files of rules, which may come later; see `reload`.
        interval: between two scrapes of a target, and between two evaluations of the rules.
        targets: see `scrape`.
    """

    def __init__(self, directory: Path, rules: Sequence[Path], interval: str, *targets: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._targets = directory / "targets.json"
        self.scrape(*targets)
        discovery = {"files": [str(self._targets)], "refresh_interval": "1s"}
        config = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [{"job_name": JOB, "file_sd_configs": [discovery]}],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [prometheus_tool("prometheus"), f"--config.file={directory / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={directory / 'data'}", "--web.listen-address=127.0.0.1:0", "--log.level=info"]
        self.process = Process(command, directory / "prometheus.log")

    def __enter__(self) -> Prometheus:
        try:
            until(lambda: "Server is ready" in self.process.tail(100_000), "Prometheus", self.process)
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()

    def scrape(self, *targets: str) -> None:
        """Scrape these `HOST:PORT` from now on, and no others."""
        whole = self._targets.with_suffix(".new")
        whole.write_text(json.dumps([{"targets": targets}] if targets else []))
        os.replace(whole, self._targets)

    def reload(self) -> None:
        """Have it read its files again."""
        self.process.signal(signal.SIGHUP)

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of every series of an instant vector."""
        found = self.ask("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    @property
    def url(self) -> str:
        """Its own word of where it listens, for port 0 is any free one."""
        said = [line for line in self.process.tail(100_000).splitlines() if "Listening on" in line]
        return "http://" + said[0].rpartition("address=")[2]
