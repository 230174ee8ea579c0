"""Finished measurements of a call that is still under way, one a line beside the bundle, so that none is lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from deploykit.errors import BundleError
from deploykit_serving.profiling.schema import ColdStart, Comparison, Energy, Layers, Memory, Point

JOURNAL_VERSION: Final = 1
SUFFIX: Final = ".profiling.jsonl"
_MARK: Final = "deploykit_profiling"


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(_Line):
    """One finished measurement; whatever is set was measured.

    Attributes:
        unit: key of the unit of the plan it belongs to, see :class:`deploykit_serving.profiling.plan.Unit`.
        name: of the unit, for people.
        ended: nothing is left to do for the unit.
        stopped: why its sweep ended.
        failure: why it has no or not all points.
    """

    unit: str
    name: str
    point: Point | None = None
    comparison: Comparison | None = None
    cold_start: ColdStart | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    layers: Layers | None = None
    overhead_ns: float | None = None
    canary_floor_ms: float | None = None
    ended: bool = False
    stopped: str = ""
    failure: str = ""


class _Header(_Line):
    deploykit_profiling: int
    host: str
    bundle: str


class Journal:
    """Records of one bundle on one host, appended and flushed to disk one by one.

    Attributes:
        path: the file; ``None`` keeps everything in memory.
        taken_over: records that an earlier call has left, in order.
    """

    def __init__(self, path: Path | None = None, descriptor: int = -1, taken_over: tuple[Record, ...] = ()) -> None:
        self.path = path
        self.taken_over = taken_over
        self._descriptor = descriptor

    def append(self, record: Record) -> None:
        """Keep a record; when this returns it outlives the process.

        Raises:
            BundleError: the disk does not take it.
        """
        if self.path is None:
            return
        _write(self.path, self._descriptor, record.model_dump_json(exclude_defaults=True))

    def remove(self) -> None:
        """Delete the file: everything in it has been published."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def journal_file(bundle: Path) -> Path:
    """Return where the journal of a bundle lies: beside it."""
    return bundle.with_name(f"{bundle.name}{SUFFIX}")


@contextlib.contextmanager
def opened_journal(bundle: Path, host_id: str, *, fresh: bool = False) -> Iterator[Journal]:
    """Open a bundle's journal, or begin one; nobody else can while the context lasts.

    A last line that was cut off is left out. The file stays when the context ends, unless it was removed.

    Args:
        fresh: drop what an earlier call has left.

    Raises:
        BundleError: the file is no journal, is of another host, bundle or version or is malformed, it cannot be
            written, or another call profiles the bundle at this moment. It is left as it is then.
    """
    path = journal_file(bundle)
    descriptor = _locked(path, bundle)
    try:
        content = _content(path, descriptor)
        records, length = _read(path, content, bundle.name, host_id, fresh)
        try:
            # Behind a line that was cut off nothing could be read again.
            os.ftruncate(descriptor, length)
        except OSError as error:
            raise _not_written(path, error) from error
        if not length:
            header = _Header(deploykit_profiling=JOURNAL_VERSION, host=host_id, bundle=bundle.name)
            _write(path, descriptor, header.model_dump_json())
        yield Journal(path, descriptor, records)
    finally:
        os.close(descriptor)


def _locked(path: Path, bundle: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _not_written(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The call before may have removed the file between our opening and locking it.
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise BundleError(f"{bundle} is being profiled by another process at this moment; wait for it") from None
        except OSError as error:
            os.close(descriptor)
            raise _not_written(path, error) from error
        os.close(descriptor)


def _content(path: Path, descriptor: int) -> bytes:
    parts = []
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}; nothing was measured") from error
    return b"".join(parts)


def _read(path: Path, content: bytes, bundle: str, host_id: str, fresh: bool) -> tuple[tuple[Record, ...], int]:
    """Return the records and up to where the file is whole."""
    whole = content[: content.rfind(b"\n") + 1]
    lines = whole.splitlines()
    if not lines:
        # A header that was cut off is nothing to go on from; anything else is somebody's file.
        if content and not f'{{"{_MARK}"'.encode().startswith(content[: len(_MARK) + 3]):
            raise _no_journal(path)
        return (), 0
    header = _header(path, lines[0])
    if fresh:
        return (), 0
    if header.deploykit_profiling != JOURNAL_VERSION:
        raise BundleError(
            f"{path} is a journal of version {header.deploykit_profiling}; this deploykit goes on from "
            f"{JOURNAL_VERSION}. Start anew with --fresh"
        )
    if header.host != host_id:
        raise BundleError(
            f"{path} was begun on host {header.host}, and this is {host_id}: figures of two machines do not mix. "
            "Finish it there, or start anew with --fresh"
        )
    if header.bundle != bundle:
        raise BundleError(f"{path} belongs to {header.bundle}, not to {bundle}; start anew with --fresh")
    records = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            fault = error.errors()[0]
            raise BundleError(
                f"{path} is malformed: line {number}: {fault['msg']}. Mend it, or start anew with --fresh"
            ) from error
    return tuple(records), len(whole)


def _header(path: Path, line: bytes) -> _Header:
    try:
        found: Any = json.loads(line)
    except ValueError:
        raise _no_journal(path) from None
    if not isinstance(found, dict) or _MARK not in found:
        raise _no_journal(path)
    try:
        return _Header.model_validate(found)
    except ValidationError as error:
        raise _no_journal(path) from error


def _no_journal(path: Path) -> BundleError:
    return BundleError(
        f"{path} is no journal of deploykit profile, which would write its own there; move the file away"
    )


def _write(path: Path, descriptor: int, line: str) -> None:
    data = line.encode() + b"\n"
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path} was not written: {error.strerror or error}; the journal of unfinished profiling lies beside the bundle"
    )
