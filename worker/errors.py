"""Every error that cellstream raises on purpose, named by the reaction it asks for.

    CellstreamError
    ├── BadRecord           one record is unusable: dead letter, the offset advances, the stream goes on
    ├── TransientFault      the work since the last commit is void: abort, restore, replay
    │   ├── CommitPostponed not a word of it was published, and the memory is sound: produce it again
    │   └── StoreUnavailable the checkpoint store failed: tried again later, while records go on
    ├── FatalFault          stop and commit nothing (exit 1); a restart resumes at the committed offset
    ├── UsageError          a setting or an argument is wrong (exit 2)
    └── Refused             going on could lose, double or falsify something (exit 3): says what to do
        ├── NotStreamable   a model has a layer that needs the future
        ├── ArtifactRefused an artifact is damaged, unsafe, or not the one that was promised
        ├── StateRefused    a partition's state, its offsets and its log do not fit together
        └── CheckpointDamaged  one checkpoint file is not what was written; an older one may do
            ├── CheckpointOfOtherModel    a sound file, but its states are laid out for another model
            └── CheckpointOfNewerVersion  a sound file, but only a newer cellstream reads it

A programming mistake is an `AssertionError` and stands outside the tree.
"""

from __future__ import annotations


class CellstreamError(Exception):
    """Base of the tree; `exit_code` is what the process ends with when nothing handles it."""

    exit_code = 1


class BadRecord(CellstreamError):
    """A record that becomes a dead letter.

    Args:
        reason: a short word of a fixed set, used as a metric label (never taken from the record).
        message: what was expected and what was received; bounded, safe to log.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TransientFault(CellstreamError):
    """The open transaction was aborted or must be: drop the memory, restore, replay."""


class CommitPostponed(TransientFault):
    """The transaction was aborted and what is in memory still holds: the same work may be offered again."""


class StoreUnavailable(TransientFault):
    """The checkpoint store could not be read or written."""


class FatalFault(CellstreamError):
    """The process cannot go on; whatever was not committed is left to the next one."""


class UsageError(CellstreamError):
    """A setting or an argument is wrong; every problem is in the message, each with its remedy."""

    exit_code = 2


class Refused(CellstreamError):
    """Refused for safety; the message says what the operator can do."""

    exit_code = 3


class NotStreamable(Refused):
    """A model cannot be advanced sample by sample; names the layer, the reason and the remedy."""


class ArtifactRefused(Refused):
    """An artifact is damaged, of an unknown format, unsafe to open, or not the expected one."""


class StateRefused(Refused):
    """Committed offset, checkpoint, log and artifact of a partition contradict each other."""


class CheckpointDamaged(Refused):
    """A checkpoint file is truncated, altered, too large, or of a format that cannot be read."""


class CheckpointOfOtherModel(CheckpointDamaged):
    """A sound checkpoint whose states do not have the layout of this artifact: a matter of `on_model_change`."""


class CheckpointOfNewerVersion(CheckpointDamaged):
    """A checkpoint that a newer cellstream has written; an older one, or the log, may do."""
