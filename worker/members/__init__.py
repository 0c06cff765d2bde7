"""Several workers as one: `cellstream run --workers N`.

A worker computes on one core. The supervisor starts one process for each, all in one group, serves the metrics of
all on one port, starts again what died, and stops all together. A member is the worker of `cellstream run`, with two
differences: it is asked for its pages through a pipe, and it stops when that pipe's other end is gone.
"""

from worker.members.supervisor import Supervisor

__all__ = ["Supervisor"]
