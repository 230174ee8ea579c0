"""Engines kept from one start to the next. An engine is a program: loaded only if nobody else can have written it.

Beside each engine lies its own hash, which finds damage; that nobody exchanges both is what the folder's mode is for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from deploykit.errors import ServingError

FOLDER_VARIABLE: Final = "DEPLOYKIT_ENGINES"
_PRIVATE: Final = 0o700
_log = logging.getLogger("deploykit.serving")


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes:
        model: sha256 of the ONNX file.
        builder: ``tensorrt`` or ``tensorrt_rtx``.
        version: the builder's.
        target: the GPU it is for, as closely as the builder tells them apart.
        profile: smallest, usual and largest shapes of the inputs.
        flags: what was asked of the builder beside.
    """

    model: str
    builder: str
    version: str
    target: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return the key as a file's name."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


class EngineCache:
    """A folder of engines, readable by its owner only.

    Args:
        folder: by default ``$DEPLOYKIT_ENGINES``, or ``deploykit/engines`` in the user's cache.

    Raises:
        ServingError: the folder is somebody else's, others may write into it, or it cannot be made.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or _default_folder()
        try:
            self.folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            found = self.folder.lstat()
        except OSError as error:
            raise ServingError(
                f"engines cannot be kept in {self.folder}: {error.strerror}; set {FOLDER_VARIABLE} to a folder of your "
                "own"
            ) from error
        own = found.st_uid == os.getuid() if hasattr(os, "getuid") else True
        if not own or not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
            raise ServingError(
                f"engines are programs, and {self.folder} is not a folder that only you can use (mode "
                f"{stat.S_IMODE(found.st_mode):o}); chmod 700 it, or set {FOLDER_VARIABLE} to a folder of your own"
            )

    def read(self, name: str) -> bytes | None:
        """Return what is kept under a name; ``None`` if nothing is, or it is not what was written."""
        try:
            data = (self.folder / name).read_bytes()
            wanted = (self.folder / f"{name}.sha256").read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        if hashlib.sha256(data).hexdigest() != wanted:
            _log.warning("%s is not what was written there; it is made anew", self.folder / name)
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Keep data under a name; the hash comes last, so that a file without one was never finished.

        Raises:
            ServingError: the disk does not take it.
        """
        try:
            (self.folder / f"{name}.sha256").unlink(missing_ok=True)
            self._put(name, data)
            self._put(f"{name}.sha256", hashlib.sha256(data).hexdigest().encode() + b"\n")
        except OSError as error:
            raise ServingError(f"engine {name} cannot be kept in {self.folder}: {error.strerror}") from error

    def _put(self, name: str, data: bytes) -> None:
        temporary = self.folder / f".{name}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)


def _default_folder() -> Path:
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deploykit" / "engines"
