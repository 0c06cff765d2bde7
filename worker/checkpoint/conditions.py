"""Whether a store keeps the conditions of puts. Some that speak S3 accept a condition and put all the same.

On such a store two workers would overwrite each other's pointer, and none would learn of it.
"""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

from worker.checkpoint.objects import Objects, Outdated
from worker.errors import StoreUnavailable, UsageError


def require_conditions(objects: Objects, key: str) -> None:
    """Try it with an object of our own.

    1. Create it, and create it again: one must be refused. 2. Replace what is seen, and once more as one who has not
    seen that: one must be refused. 3. Remove it.

    Args:
        objects: the store.
        key: of an object that is nobody else's. It may be there: an earlier trial was not brought to its end.

    Raises:
        UsageError: both were done.
        StoreUnavailable: it did not answer, so nothing is known.
    """
    _require_refusal(objects, key, None)  # 1
    found = objects.read(key, 100)
    if found is None:
        raise StoreUnavailable(f"checkpoint store: {key} is not there after its put")
    _require_refusal(objects, key, found[1])  # 2
    with suppress(FileNotFoundError):
        objects.remove(key)  # 3


def _require_refusal(objects: Objects, key: str, tag: str | None) -> None:
    """Put twice on a condition that can hold only once.

    The first may be refused, too, as one that was repeated since its answer was lost: who refuses keeps conditions. The
    contents differ, for a tag may be a digest of the content.
    """
    try:
        for _ in range(2):
            objects.swap(key, uuid4().hex.encode(), tag)
    except Outdated:
        return
    done = "created an object that was there" if tag is None else "replaced an object that had changed"
    raise UsageError(
        f"checkpoints: this store ignores the conditions of puts: it {done}. Workers would overwrite each other's "
        "checkpoints in it; take one that keeps If-Match and If-None-Match, or a directory"
    )
