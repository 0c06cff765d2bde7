"""Run `cellstream bench` on a broker that is found or started as for the tests.

python -m tests.bench [FLAGS OF cellstream bench]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.brokers.choice import choose, real_broker


def main() -> int:
    """The bench's exit code; 1 when there is no broker to be had."""
    choice = choose()
    print(f"broker: {choice.words}", file=sys.stderr)
    if choice.kind == "none":
        return 1
    command = [sys.executable, "-c", "from worker.cli import main; main()", "bench", *sys.argv[1:]]
    with (
        tempfile.TemporaryDirectory(prefix="cellstream-bench-broker-") as directory,
        real_broker(Path(directory)) as servers,
    ):
        return subprocess.run([*command, "--bootstrap-servers", servers], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
