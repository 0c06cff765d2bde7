"""The checker: reads the topics and the checkpoint store, and holds them against a sequential reference.

It is told where things are and which settings decide what the outputs must be; of the worker's code it uses nothing.

    with Watch(deployment) as watch:
        ...                                                             workers live and die
    violations = hold(deployment, inputs, watch=watch, reference=...)   and print a report

    contract           docs/records.md read aloud: what each input record means
    expected           what must have become of all of them
    laws               outputs and dead letters at rest, a pure function
    keras_reference    the numbers, and the recurrent states
    watch, live        what must hold at every moment
    checkpoints        the files of the store
    broker             transactions that are still open
    report             the first violation, and what every worker said around it
"""

from tests.chaos.checker.hold import Reference, hold
from tests.chaos.checker.laws import Numbers, check
from tests.chaos.checker.records import DeadLetter, Input, Output, Rules, Source, Violation
from tests.chaos.checker.watch import Watch

__all__ = [
    "DeadLetter",
    "Input",
    "Numbers",
    "Output",
    "Reference",
    "Rules",
    "Source",
    "Violation",
    "Watch",
    "check",
    "hold",
]
