"""The `cellstream` command as a child that cannot outlive its parent: `python -m training.tethered run ...`.

The parent holds the other end of standard input. When it ends, however it ends, the pipe closes and the child
stops as at SIGTERM. So even `kill -9` of a demo leaves no worker behind.
"""

from __future__ import annotations

import os
import signal
import threading
import time

GRACE_S = 10.0


def main() -> None:
    """Run the command line with a watch on standard input."""
    threading.Thread(target=_end_with_parent, name="tether", daemon=True).start()
    from worker.cli import main as cellstream

    cellstream()


def _end_with_parent() -> None:
    """Wait for the end of standard input, then end the process: in order, or after `GRACE_S` at once."""
    # Not sys.stdin: a thread that is inside its buffer when the interpreter shuts down makes that a fatal error.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
