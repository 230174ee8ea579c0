"""Latency tables as files of JSON lines: to merge two, write one behind the other."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deploykit.latency_block import Block, Environment, LatencyTableError
from deploykit.latency_table import HOW_TO_MEASURE, Entry, LatencyTable

TABLE_VERSION: Final = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[1] = TABLE_VERSION


class _EnvironmentRecord(_Record):
    kind: Literal["environment"] = "environment"
    environment: Environment
    canary_us: float | None = None


class _BlockRecord(_Record):
    kind: Literal["block"] = "block"
    environment: str
    block: Block
    entry: Entry


class _SkeletonRecord(_Record):
    kind: Literal["skeleton"] = "skeleton"
    environment: str
    name: str
    entry: Entry


_AnyRecord = _EnvironmentRecord | _BlockRecord | _SkeletonRecord
_LINE: Final[TypeAdapter[_AnyRecord]] = TypeAdapter(Annotated[_AnyRecord, Field(discriminator="kind")])


def append_table(path: Path, table: LatencyTable) -> None:
    """Add a table to a file, made if it is not there; later lines replace earlier ones of the same block.

    The file is replaced in one step: a crash leaves the old one. Of two programs that write at the same time one loses.

    Raises:
        LatencyTableError: what is there is no latency table, or it cannot be read or written; or the table is labelled
            foreign.
    """
    if table.foreign:
        raise LatencyTableError(f"a table that was {table.foreign} is not written again; copy its file instead")
    try:
        old = _read(path)
    except FileNotFoundError:
        old = ""
    _parse(old, path)
    name = table.environment.id
    records: list[_AnyRecord] = [_EnvironmentRecord(environment=table.environment, canary_us=table.canary_us)]
    records += [_BlockRecord(environment=name, block=key, entry=entry) for key, entry in table.blocks.items()]
    records += [_SkeletonRecord(environment=name, name=key, entry=entry) for key, entry in table.skeletons.items()]
    text = old + "\n" * (bool(old) and not old.endswith("\n"))
    _replace(path, text + "".join(record.model_dump_json() + "\n" for record in records))


def open_table(path: Path, environment: Environment, *, allow_foreign: bool = False) -> LatencyTable:
    """Read the times of one environment from a file.

    Args:
        environment: where the networks are going to run.
        allow_foreign: take the times of the least different environment if there are none of this one; every answer is
            then labelled with what differs.

    Raises:
        LatencyTableError: the file is not there or is no latency table; or it holds other environments only.
    """
    try:
        text = _read(path)
    except FileNotFoundError as error:
        raise LatencyTableError(f"{path}: cannot be read: {error.strerror}; {HOW_TO_MEASURE}") from error
    tables = _tables(_parse(text, path), path)
    if environment.id in tables:
        return tables[environment.id]
    if not tables:
        raise LatencyTableError(f"{path}: holds no measurements; {HOW_TO_MEASURE}")
    table = min(tables.values(), key=lambda other: len(other.environment.differences(environment)))
    foreign = "; ".join(table.environment.differences(environment))
    if not allow_foreign:
        raise LatencyTableError(
            f"{path}: was measured in another environment: {foreign}. Times do not carry over: measure here, or "
            "ask for it with allow_foreign=True, which labels every answer"
        )
    table.foreign = f"measured in another environment: {foreign}"
    return table


def _read(path: Path) -> str:
    """Return what a file holds; that it is not there is for the caller to judge."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LatencyTableError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LatencyTableError(
            f"{path}: this is no latency table: byte {error.start} is not UTF-8; give a file of JSON lines"
        ) from error


def _parse(text: str, path: Path) -> list[_AnyRecord]:
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(_LINE.validate_json(line))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"]) or "the line"
            raise LatencyTableError(
                f"{path}, line {number}: this is no latency table: {where}: {fault['msg']}"
            ) from error
    return records


def _tables(records: Iterable[_AnyRecord], path: Path) -> dict[str, LatencyTable]:
    tables: dict[str, LatencyTable] = {}
    for record in records:
        if isinstance(record, _EnvironmentRecord):
            found = tables.setdefault(record.environment.id, LatencyTable(record.environment))
            floors = [floor for floor in (found.canary_us, record.canary_us) if floor is not None]
            found.canary_us = min(floors, default=None)
            continue
        if record.environment not in tables:
            raise LatencyTableError(f"{path}: a {record.kind} stands before its environment {record.environment}")
        if isinstance(record, _BlockRecord):
            tables[record.environment].blocks[record.block] = record.entry
        else:
            tables[record.environment].skeletons[record.name] = record.entry
    return tables


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise LatencyTableError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
