"""The long run, target by target, each in a process of its own: no law broken, no crash, no hang, no growth.

python -m tests.security.fuzz --count 1000000 [--target checkpoint] [--seed 7]
python -m tests.security.fuzz --target checkpoint FILE     # what a run has left, once more
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

TARGETS = (
    *("json", "msgpack", "mapped", "float32", "avro", "protobuf", "headers", "log"),
    *("manifest", "model", "checkpoint", "packed", "schema", "note"),
)
MOST_SHOWN = 4_000  # characters
BESIDE = ("INFO: Instrumenting", "WARNING: Failed to find function")


def main() -> int:
    """Run every target; 1 when one has found something, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.security.fuzz", description="Fuzz what reads input that nobody trusts."
    )
    parser.add_argument("--count", type=int, default=100_000, help="inputs of each target [100000]")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of the first inputs and of their changes [1]")
    parser.add_argument("--found", type=Path, default=Path(".cache/fuzz"), help="where inputs are left [.cache/fuzz]")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="read these instead; with one --target")
    arguments = parser.parse_args()
    if arguments.files and len(arguments.target or ()) != 1:
        parser.error("say by one --target what reads FILE")
    missing = [str(path) for path in arguments.files if not path.is_file()]
    if missing:
        parser.error(f"no file {', '.join(missing)}")
    arguments.found.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.target or TARGETS:
        log = arguments.found / f"{name}.log"  # libFuzzer has much to say
        with TemporaryDirectory(prefix="cellstream-fuzz-") as scratch, log.open("wb") as said:
            words = [name, str(arguments.count), str(arguments.seed), scratch, str(arguments.found)]
            words += map(str, arguments.files)
            run = subprocess.run([sys.executable, "-m", "tests.security.fuzz.guided", *words], check=False, stderr=said)
        if run.returncode:
            failed.append(name)
            told = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith(BESIDE)]
            print("\n".join(told)[-MOST_SHOWN:], file=sys.stderr)
            print(f"{name}: failed; the input is in {arguments.found}, and all that was said in {log}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
