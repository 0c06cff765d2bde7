"""The checker: reads the topics and the checkpoint store, and holds them against a sequential reference."""

from tests.chaos.checker.laws import Numbers, check
from tests.chaos.checker.records import DeadLetter, Input, Output, Rules, Source, Violation

__all__ = ["DeadLetter", "Input", "Numbers", "Output", "Rules", "Source", "Violation", "check"]
