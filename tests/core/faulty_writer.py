"""Write a bundle in processes that are killed, or meet a full disk, at the n-th touch of the disk, for every n.

``python faulty_writer.py FOLDER kill|full|limit nothing|old`` prints one record for each n as JSON. It is a program
of its own because forking is cheap only where torch is not loaded.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import parts  # type: ignore[import-not-found]  # beside this program when it runs

from deploykit import open_bundle
from deploykit.bundle_writer import write_bundle
from deploykit.errors import DeploykitError
from deploykit.registry import installed

_TOUCHES_DISK = {
    "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "ctypes.dlsym"
}  # fmt: skip
_STATUS = {0: "written", 1: "undisturbed", 10: "refused", -signal.SIGKILL: "killed"}


def main(folder: Path, fault: str, before: str) -> None:
    """Print what each fault left behind."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # slow, and no power fails here
    installed()  # read once here, so that the children touch no files but the bundle's
    records: list[dict[str, Any]] = []
    while not records or records[-1]["status"] != "undisturbed":
        records.append(_record(folder / str(len(records)), fault, before, len(records) + 1))
        if fault == "limit":
            break
    print(json.dumps(records if fault == "limit" else records[:-1]))


def _record(folder: Path, fault: str, before: str, position: int) -> dict[str, Any]:
    folder.mkdir()
    path = folder / "small.bundle"
    if before == "old":
        write_bundle(path, *parts("old"))
    pid = os.fork()
    if not pid:
        _child(path, fault, position)
    _, status = os.waitpid(pid, 0)
    message = folder.with_suffix(".message")
    record: dict[str, Any] = {
        "status": _STATUS.get(os.waitstatus_to_exitcode(status), "crashed"),
        "left": open_bundle(path).manifest.facts["stamp"] if path.exists() else "nothing",
        "message": message.read_text() if message.exists() else "",
    }
    record["next"] = write_bundle(path, *parts("new")).manifest.facts["stamp"]
    record["beside"] = sorted(item.name for item in folder.iterdir() if item != path)
    shutil.rmtree(folder)
    return record


def _child(path: Path, fault: str, position: int) -> None:
    met: list[str] = []
    fields, files = parts("new")
    status = 20
    try:
        if fault == "limit":
            files["models/onnx.onnx"] = bytes(100_000)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        else:
            sys.addaudithook(_hook(met, position, _kill if fault == "kill" else _full))
        write_bundle(path, fields, files)
        status = 0 if met else 1
    except DeploykitError as error:
        status = 10
        path.parent.with_suffix(".message").write_text(str(error))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _hook(met: list[str], position: int, do: Callable[[], None]) -> Callable[[str, tuple[Any, ...]], None]:
    left = position

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _TOUCHES_DISK:
            left -= 1
            if left == 0:
                met.append(event)
                do()

    return hook


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
