"""A Prometheus histogram that takes a whole array for the price of one observation."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class ArrayHistogram(Collector):
    """Counts per bucket and a sum, fed with arrays; `prometheus_client.Histogram` takes one value a call.

    Args:
        name: full name with its unit.
        documentation: help text.
        bounds: upper bounds of the buckets, ascending; +Inf is added.
    """

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.documentation = documentation
        self.bounds = np.asarray(bounds, np.float64)
        self._labels = [*map(floatToGoString, bounds), "+Inf"]
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, values: npt.NDArray[np.float64]) -> None:
        """Add `(n,)` values; none may be NaN, and negative ones would make the sum look like a restart."""
        slots = np.searchsorted(self.bounds, values, side="left")  # a bound is in its own bucket: le means <=
        counts = np.bincount(slots, minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(values.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """One family, for the registry."""
        with self._lock:
            cumulative, total = np.cumsum(self._counts), self._sum
        family = HistogramMetricFamily(self.name, self.documentation)
        family.add_metric([], list(zip(self._labels, map(float, cumulative), strict=True)), total)
        yield family
