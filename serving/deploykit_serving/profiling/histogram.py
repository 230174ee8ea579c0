"""Latencies kept whole in little space: an HdrHistogram from 1 ns to an hour with three significant digits."""

from __future__ import annotations

import binascii
import math
import struct
import zlib
from typing import Any, Final

import numpy as np
from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

LOWEST_NS: Final = 1
HIGHEST_NS: Final = 3_600_000_000_000
DIGITS: Final = 3
_SUB_BUCKET_BITS: Final = 11  # 2048 sub-buckets tell three digits apart
_MALFORMED: Final = (
    HdrCookieException, HdrLengthException, zlib.error, binascii.Error, struct.error,
    UnicodeError, TypeError, ValueError, IndexError, MemoryError,
)  # fmt: skip


class Histogram:
    """Counts of latencies in nanoseconds; a value is kept with a relative error of at most 0.1 %.

    Source: HdrHistogram, http://hdrhistogram.org; its V2 log encoding, so that any of its tools reads ours.
    """

    def __init__(self) -> None:
        self._counts = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)

    @property
    def count(self) -> int:
        """How many latencies were recorded."""
        return int(self._counts.get_total_count())

    def record_many(self, times: NDArray[Any]) -> None:
        """Add latencies.

        Shapes:
            times: (n,), integer nanoseconds from 0 to an hour; n may be 0.

        Raises:
            ValueError: a time is negative, above an hour, or no integer; nothing is recorded then.
        """
        if times.ndim != 1 or not np.issubdtype(times.dtype, np.integer):
            raise ValueError(f"wanted integer nanoseconds of shape (n,), got {times.dtype} of shape {times.shape}")
        if not len(times):
            return
        least, most = int(times.min()), int(times.max())
        if least < 0 or most > HIGHEST_NS:
            raise ValueError(f"wanted latencies from 0 ns to an hour, got {least} to {most} ns")
        # Every bucket once, not every value: recording one value at a time takes a microsecond each.
        for value, count in zip(*np.unique(_bucket_floor(times.astype(np.int64)), return_counts=True), strict=True):
            self._counts.record_value(int(value), int(count))
        for value in (least, most):
            self._counts.record_value(value, 0)  # counts nothing; the exact extremes are kept beside the buckets

    def percentile(self, q: float) -> float:
        """Return the latency in nanoseconds that at least a share ``q`` of all does not exceed, up to 0.1 % too large.

        The rank is that of :func:`deploykit_serving.profiling.statistics.percentile`, rounded up. HdrHistogram's own
        tools round it to the nearest, so that they may answer one rank below.

        Raises:
            ValueError: ``q`` is not inside (0, 1), or nothing was recorded.
        """
        if not 0.0 < q < 1.0:
            raise ValueError(f"a percentile is given as a share inside (0, 1), 0.99 for p99; got {q}")
        if not self.count:
            raise ValueError("nothing was recorded, so there is no percentile")
        _, highs, counts = self.buckets()
        rank = math.ceil(round(self.count * q, 9))
        bucket = int(np.searchsorted(np.cumsum(counts), rank, side="left"))
        return float(highs[bucket])

    def merge(self, other: Histogram) -> None:
        """Add everything another histogram holds."""
        if other.count:
            self._counts.add(other._counts)

    def buckets(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return lower ends, upper ends (inclusive, nanoseconds) and counts of the buckets that hold something.

        Shapes:
            each: (buckets,), ascending.
        """
        counts = np.ctypeslib.as_array(self._counts.counts).astype(np.int64)
        held = np.flatnonzero(counts)
        half = 1 << (_SUB_BUCKET_BITS - 1)
        # The first 2048 indices are values themselves; after that each power of two has 1024 buckets.
        shift = np.maximum(held // half - 1, 0)
        lows = np.where(held < 2 * half, held, (held % half + half) << shift)
        return lows, lows + (np.int64(1) << shift) - 1, counts[held]

    def encode(self) -> str:
        """Return it in HdrHistogram's V2 format: compressed, base64."""
        text: bytes = self._counts.encode()
        return text.decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Histogram:
        """Read what :meth:`encode` wrote, or any V2 histogram of the same range and digits.

        Raises:
            ValueError: it is no such histogram.
        """
        try:
            read = HdrHistogram.decode(text.encode("ascii"))
        except _MALFORMED as error:
            raise ValueError(f"not an HdrHistogram in V2 format: {error or type(error).__name__}") from error
        found = (read.lowest_trackable_value, read.highest_trackable_value, read.significant_figures)
        wanted = (LOWEST_NS, HIGHEST_NS, DIGITS)
        if found != wanted:
            raise ValueError(f"wanted a histogram of lowest, highest value and digits {wanted}, got {found}")
        made = cls()
        if read.get_total_count():
            made._counts.add(read)  # what was read cannot grow; ours can
        return made


def _bucket_floor(times: NDArray[np.int64]) -> NDArray[np.int64]:
    _, bits = np.frexp(times.astype(np.float64))  # an hour in nanoseconds is far below 2 ** 53: exact
    shift = np.maximum(bits.astype(np.int64) - _SUB_BUCKET_BITS, 0)
    floor: NDArray[np.int64] = (times >> shift) << shift
    return floor
