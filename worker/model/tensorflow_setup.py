"""TensorFlow and Keras, imported once, quietly, with one XLA thread.

The variables are read when the shared libraries load and the thread counts when the first operation runs, so this
has to come before any other import of TensorFlow in the process. In a process that has already run operations
(training) the thread counts stay as they are; the proof of the buckets does not assume them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Keras imports these when they are installed, for plots, data frames and wrappers that stepping has no use for:
# a second of every start.
_UNUSED_EXTRAS = ("matplotlib", "pandas", "sklearn")

_XLA_FLAGS = {
    # LLVM's own default is half of AVX-512: a block of 1024 took 15 to 30 % longer. No effect on other CPUs.
    "xla_cpu_prefer_vector_width": "512",
    # Small products become loops of XLA's own instead of calls into Eigen: 2.2 us instead of 6.3 for a timestep of two
    # streams (LSTM 32-16-8); none of ten models took longer for any shape.
    "xla_cpu_multi_thread_eigen": "false",
}


def setup_tensorflow(*, gpu: bool = False) -> None:
    """Import TensorFlow and Keras with quiet logs, the CPU only, and one thread for XLA.

    Args:
        gpu: whether a graphics processor is used where there is one, as training does, and then by programs that give
            the same result again. What is answered is proven on the CPU in any case.

    One thread is what makes batching invisible for large models: with two, XLA divides a wide matrix product among
    them, and a row's sum depends on the width (3 x LSTM 256 kept only the widths up to 256; no XLA flag mends it).
    It is also faster here: 1.2 ms against 2.0 ms for that model's smallest block, 0.17 against 0.18 for a small one.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # oneDNN chooses its summation order by shape
    if not gpu:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    given = os.environ.get("XLA_FLAGS", "")
    missing = [f"--{flag}={value}" for flag, value in _XLA_FLAGS.items() if flag not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *missing]).strip()
    with _without(_UNUSED_EXTRAS):
        import keras  # noqa: F401  (the import is the effect)
        import tensorflow as tf
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # operations ran before: the process belongs to training, which wants every core
    if gpu and tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


@contextmanager
def quiet_compiler() -> Iterator[None]:
    """Drop the two lines that XLA writes to stderr at its first compilation, which no log level silences.

    Whatever else is written to stderr meanwhile appears afterwards.
    """
    global _compiled  # noqa: PLW0603  (XLA says it once in a process, so this is a fact of the process)
    if _compiled:
        yield
        return
    _compiled = True
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written:
                if b"absl::InitializeLog()" not in line and b"] Compiled cluster using XLA!" not in line:
                    os.write(2, line)


_compiled = False


@contextmanager
def _without(modules: tuple[str, ...]) -> Iterator[None]:
    """Make the named modules look as if they were not installed, unless they are imported already."""
    hidden = [name for name in modules if name not in sys.modules]
    loaded: dict[str, Any] = sys.modules
    loaded.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del loaded[name]
