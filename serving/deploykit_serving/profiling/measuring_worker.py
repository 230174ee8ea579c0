"""The process in which one variant is measured: ``python -m ... DESCRIPTOR PARENT``, with the job on its input.

It says what it does and what it found through the descriptor, one message a line; see
:mod:`deploykit_serving.profiling.isolation`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

from deploykit.bundle import open_bundle
from deploykit.errors import DeploykitError
from deploykit_serving.parent_process import end_with
from deploykit_serving.profiling.closed_loop import collector_off
from deploykit_serving.profiling.comparing_job import compare_job
from deploykit_serving.profiling.job import Job, Message
from deploykit_serving.profiling.sweep_job import details_job, sweep_job

_JOBS: Final = {"sweep": sweep_job, "details": details_job, "compare": compare_job}


class Speaker:
    """Writes messages to whoever started this process."""

    def __init__(self, descriptor: int) -> None:
        # Processes that are started from here must not keep the pipe open after this one has died.
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def __call__(self, message: Message) -> None:
        """Write one message."""
        data = message.model_dump_json(exclude_defaults=True).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]


def main(descriptor: int, parent: int) -> None:
    """Do a job; a fault that can be said in words is said in the last message."""
    if not end_with(parent, by=signal.SIGKILL):
        os._exit(1)
    say = Speaker(descriptor)
    job = Job.model_validate_json(sys.stdin.buffer.read())
    try:
        with collector_off():
            _JOBS[job.kind](open_bundle(job.bundle), job, say)
    except DeploykitError as error:
        say(Message(fault=str(error)))
    except MemoryError:
        say(Message(fault="ran out of memory"))
    except Exception as error:  # engines' exceptions share no base class
        first = next(iter(str(error).splitlines()), "")
        say(Message(fault=f"{type(error).__name__}: {first[:300]}"))
    else:
        say(Message(finished=True))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
