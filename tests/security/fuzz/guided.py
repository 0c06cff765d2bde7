"""One target by libFuzzer, which keeps what reaches new code and changes it further.

    python -m tests.security.fuzz.guided TARGET COUNT SEED SCRATCH FOUND [FILE ...]

An input that breaks the law, crashes, or is not read within a minute ends the process, and is left in the directory
FOUND; with FILEs only those are read. Memory that grows while some are read again fails as well.
"""

from __future__ import annotations

import dis
import hashlib
import operator
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import atheris
import numpy as np
import psutil

with atheris.instrument_imports(include=["worker"]):
    from tests.deployment import make_artifact
    from tests.security.fuzz import files, values
    from tests.security.fuzz.making import Target, draw

DRAWN = 1_000
HANGS_AFTER_S = 60
AGAIN, GROWS_BY_MB = 20_000, 16
MAX_BYTES = 20_000
REPORTS = 20

WORDS = {"<": "lt", "<=": "le", "==": "eq", "!=": "ne", ">": "gt", ">=": "ge"}
COMPARE = [getattr(operator, WORDS[sign]) for sign in dis.cmp_op]
SHIFT = 0 if sys.version_info < (3, 12) else 4  # of the operator within the instruction's argument


def let_go_of_arrays() -> None:
    """Compare arrays past atheris, which never lets go of a result; to be called while it runs, as it takes its own."""
    traced = atheris._trace_cmp

    def comparison(left: Any, right: Any, instruction: int, *place: Any) -> Any:
        if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
            return COMPARE[instruction >> SHIFT](left, right)
        return traced(left, right, instruction, *place)

    atheris._trace_cmp = comparison


class Run:
    """The reading of so many inputs, and what it took.

    Args:
        name: of the target.
        target: reads them.
        count: how many.
        drawn: of which some are read again at the end. libFuzzer keeps more and more inputs, so that memory says
            something only while it stands still.
    """

    def __init__(self, name: str, target: Target, count: int, drawn: list[bytes]) -> None:
        self._name, self._target, self._count, self._drawn = name, target, count, drawn
        self._began, self._done = time.monotonic(), 0

    def read(self, content: bytes) -> None:
        """Check one input; the last one tells of the run."""
        if not self._done:
            let_go_of_arrays()
        self._target.check(content)
        self._done += 1
        if self._done == self._count:
            self._tell(f", memory {self._grown_mb():+.1f} MB\n")
        elif self._done % max(1, self._count // REPORTS) == 0 and sys.stdout.isatty():
            self._tell("\r")

    def _grown_mb(self) -> float:
        before = memory_mb()
        for number in range(AGAIN if self._drawn else 0):
            self._target.check(self._drawn[number % len(self._drawn)])
        grown_mb = memory_mb() - before
        assert grown_mb <= GROWS_BY_MB, f"memory grew by {grown_mb:.0f} MB in {AGAIN} readings"
        return grown_mb

    def _tell(self, end: str) -> None:
        seconds = time.monotonic() - self._began
        print(f"{self._name}: {self._done:,} inputs in {seconds:.0f} s", end=end, flush=True)


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

    def mutate(content: bytes, most: int, number: int) -> bytes:
        assert target.inside is not None
        return target.inside(content, lambda part: atheris.Mutate(part, most), number)[:most]

    drawn: list[bytes] = []
    draw(target, min(DRAWN, int(count)), int(seed), drawn.append)
    for content in drawn:
        (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    runs = 1 if again else int(count)  # of each file, if there are any
    flags = [
        *(f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_BYTES}", f"-timeout={HANGS_AFTER_S}"),
        *("-keep_seed=1", "-reduce_inputs=0", "-len_control=0", "-rss_limit_mb=0"),
        *("-verbosity=0", f"-artifact_prefix={found}/{name}-"),
    ]
    atheris.Setup(
        [sys.argv[0], *flags, *(again or [str(corpus)])],
        Run(name, target, len(again) or int(count), [] if again else drawn).read,
        custom_mutator=None if target.inside is None else mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
