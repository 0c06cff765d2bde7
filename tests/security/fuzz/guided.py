"""One target by libFuzzer, which keeps what reaches new code and changes it further.

    python -m tests.security.fuzz.guided TARGET COUNT SEED SCRATCH FOUND [FILE ...]

An input that breaks the law, crashes, or is not read within a minute ends the process, and is left in the directory
FOUND; with FILEs only those are read. Memory that grows between the first tenth and the end fails as well.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
import warnings
from pathlib import Path

import atheris
import psutil

with atheris.instrument_imports(include=["worker"]):
    from tests.deployment import make_artifact
    from tests.security.fuzz import files, values
    from tests.security.fuzz.making import Target, draw

DRAWN = 1_000
HANGS_AFTER_S = 60
GROWS_BY_MB = 64
MAX_BYTES = 20_000
FIRST = 10  # the part of all inputs after which memory is to stay as it is
REPORTS = 20


class Run:
    """The reading of so many inputs, and what it took."""

    def __init__(self, name: str, target: Target, count: int) -> None:
        self._name, self._target, self._count = name, target, count
        self._began, self._done, self._early_mb = time.monotonic(), 0, 0.0

    def read(self, content: bytes) -> None:
        """Check one input; the last one tells of the run."""
        self._target.check(content)
        self._done += 1
        if self._done == self._count // FIRST:
            self._early_mb = memory_mb()
        if self._done % max(1, self._count // REPORTS) == 0:
            self._tell("" if self._done == self._count else "\r")

    def _tell(self, end: str) -> None:
        grown_mb = memory_mb() - self._early_mb if self._early_mb else 0.0
        seconds = time.monotonic() - self._began
        line = f"{self._name}: {self._done:,} inputs in {seconds:.0f} s, memory {grown_mb:+.1f} MB"
        if sys.stdout.isatty() or not end:
            print(line, end=end or "\n", flush=True)
        assert grown_mb <= GROWS_BY_MB, f"memory grew by more than {GROWS_BY_MB} MB"


def memory_mb() -> float:
    """Of this process, resident."""
    return float(psutil.Process().memory_info().rss) / 2**20


def main() -> None:
    """Draw the first inputs, and leave the rest to libFuzzer, which ends the process."""
    name, count, seed, scratch, found, *again = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")  # of NumPy and h5py about what a damaged file holds
    artifact = make_artifact(Path(scratch) / "artifact")
    target = {**values.targets(), **files.targets(artifact)}[name]
    corpus = Path(scratch) / "corpus"
    corpus.mkdir()

    def keep(content: bytes) -> None:
        (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)

    def mutate(content: bytes, most: int, number: int) -> bytes:
        assert target.inside is not None
        return target.inside(content, lambda part: atheris.Mutate(part, most), number)[:most]

    draw(target, min(DRAWN, int(count)), int(seed), keep)
    flags = [
        *(f"-runs={count}", f"-seed={seed}", f"-max_len={MAX_BYTES}", f"-timeout={HANGS_AFTER_S}"),
        *("-keep_seed=1", "-reduce_inputs=0", "-len_control=0", "-rss_limit_mb=0", "-use_value_profile=1"),
        *("-verbosity=0", f"-artifact_prefix={found}/{name}-"),
    ]
    atheris.Setup(
        [sys.argv[0], *flags, *(again or [str(corpus)])],
        Run(name, target, len(again) or int(count)).read,
        custom_mutator=None if target.inside is None else mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
