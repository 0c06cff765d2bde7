"""A topic keyed otherwise -> one keyed by stream ID: `cellstream rekey`."""

from worker.rekey.copying import Copier
from worker.rekey.places import Places
from worker.rekey.rekeyer import Rekeyer

__all__ = ["Copier", "Places", "Rekeyer"]
