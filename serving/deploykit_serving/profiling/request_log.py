"""When each request of an open loop was due, begun and answered, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

LATE_NS: Final = 1_000_000
MOST_BEHIND: Final = 0.01
MOST_LAG: Final = 0.1
"""Largest median delay of the generator, as a share of the median service time, that does not shape the figures."""
LEAST_LAG_NS: Final = 50_000
"""Median delay that is never blamed: what waking a thread takes."""
NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class OpenRun:
    """What an open loop measured; arrays in order of the intended moments, answered requests only.

    Attributes:
        times: nanoseconds from the intended moment of sending to the answer: what a user waits; shape (answered,).
        service: nanoseconds from the actual start of the call to the answer, without the wait before it: the
            uncorrected figure, to be compared only.
        rate: requests a second that were asked for.
        asked: how many requests were meant to be sent.
        throughput: answers a second, from the start to the last answer.
        behind: share of the requests that were begun more than 1 ms after the intended moment although a stream was
            free: the generator's own fault.
        lag_ns: median delay of the generator itself, nanoseconds; contained in ``times``.
        backlog: the most requests that waited at once for a free stream.
        load: what the requests asked of the streams, as a share of what the streams can give; 1 and more is too much.
        invalid: why the figures must not be used, in words; empty if they may.
    """

    times: NDArray[np.int64]
    service: NDArray[np.int64]
    rate: float
    asked: int
    throughput: float
    behind: float
    lag_ns: float
    backlog: int
    load: float
    invalid: str


@dataclass(slots=True)
class RequestLog:
    """Moments in nanoseconds since the start, one entry a request; ``NEVER`` for what did not happen.

    Attributes:
        due: when it was meant to be sent, ascending.
        taken: when a free stream took it, to wait for its moment or, if that was over, to begin at once.
        begun: when the call began.
        ended: when the answer was there.
    """

    due: NDArray[np.int64]
    taken: NDArray[np.int64] = field(init=False)
    begun: NDArray[np.int64] = field(init=False)
    ended: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.taken, self.begun, self.ended = (np.full(len(self.due), NEVER, dtype=np.int64) for _ in range(3))


def summed_up(log: RequestLog, rate: float, streams: int) -> OpenRun:
    """Return what a log says about a run in which at least one request was answered."""
    answered = log.ended != NEVER
    due, taken, begun, ended = (part[answered] for part in (log.due, log.taken, log.begun, log.ended))
    lag = begun - np.maximum(due, taken)
    service = ended - begun
    # The rate that the draw came to, not the one it was drawn for: short runs differ by some per cent.
    drawn = (len(log.due) - 1) / max(int(log.due[-1]), 1) if len(log.due) > 1 else rate * 1e-9
    load = float(service.mean() * drawn / streams)
    behind, lag_ns = float(np.mean(lag > LATE_NS)), float(np.median(lag))
    invalid = _over_capacity(log, int(np.count_nonzero(~answered)), load, float(service.mean()), rate, streams)
    return OpenRun(
        times=ended - due,
        service=service,
        rate=rate,
        asked=len(log.due),
        throughput=float(len(ended) / (ended.max() * 1e-9)),
        behind=behind,
        lag_ns=lag_ns,
        backlog=_backlog(log),
        load=load,
        invalid=invalid or _late_generator(behind, lag_ns, float(np.median(service))),
    )


def _backlog(log: RequestLog) -> int:
    """Count, whenever a free stream takes a request, those that were due by then and not taken."""
    taken = np.sort(log.taken[log.taken != NEVER])
    return int(max((np.searchsorted(log.due, taken, side="right") - np.arange(len(taken))).max(), 0))


def _over_capacity(log: RequestLog, unanswered: int, load: float, service_ns: float, rate: float, streams: int) -> str:
    if not unanswered and load < 1.0:
        return ""
    able = streams / (service_ns * 1e-9)
    left = f"; {unanswered} of {len(log.due)} requests were left unanswered" if unanswered else ""
    return (
        f"{rate:.4g} requests a second are over capacity: {streams} streams with {service_ns / 1e6:.3g} ms a call "
        f"answer {able:.4g} a second, and the backlog grew to {_backlog(log)}{left}; ask for less"
    )


def _late_generator(behind: float, lag_ns: float, service_ns: float) -> str:
    """Return why the figures are the generator's own rather than the answers': late at times, or a little always."""
    if behind > MOST_BEHIND:
        return (
            f"the generator fell behind: {behind:.1%} of the requests were begun more than 1 ms late although a stream "
            "was free; the machine is too busy to measure this"
        )
    if lag_ns > max(LEAST_LAG_NS, MOST_LAG * service_ns):
        return (
            f"the generator fell behind: the median request was begun {lag_ns / 1e3:.3g} us late although a stream was "
            f"free, and a call takes {service_ns / 1e3:.3g} us; the machine is too busy to measure this"
        )
    return ""
