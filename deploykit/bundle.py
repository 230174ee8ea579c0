"""The bundle: a folder with a manifest, read only after every file has been checked.

Each file must be regular, have one link, lie inside the bundle without passing a symbolic link, and have the size
and hash the manifest gives; only then are its bytes handed to a parser. Files the manifest does not list are refused.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import BaseModel, ValidationError

from deploykit.errors import BundleError, BundleTamperedError
from deploykit.manifest import SCHEMA_VERSION, Manifest

MANIFEST: Final = "manifest.json"
SUFFIX: Final = ".bundle"
_MANIFEST_LIMIT: Final = 4 << 20


class _Version(BaseModel):
    schema_version: int


class Bundle:
    """An opened bundle; make one with :func:`open_bundle`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"

    def read(self, name: str) -> bytes:
        """Return the bytes of a listed file, checked.

        Raises:
            BundleError: the manifest lists no such file.
            BundleTamperedError: the file is missing, special, linked, or not of the listed size and hash.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.path}: the manifest lists no file {name!r}")
        data = _read_regular(self.path, name, entry.size)
        if len(data) != entry.size:
            raise BundleTamperedError(f"{self.path}: {name!r} has {len(data)} bytes; the manifest says {entry.size}")
        digest = hashlib.sha256(data).hexdigest()
        if digest != entry.sha256:
            raise BundleTamperedError(
                f"{self.path}: {name!r} was changed after the bundle was written: sha256 is {digest[:12]}…, "
                f"the manifest says {entry.sha256[:12]}…; export again or restore the file"
            )
        return data

    def check(self) -> None:
        """Check every file of the bundle, and that there is no other.

        Raises:
            BundleTamperedError: naming the first file that is not as the manifest says.
        """
        listed = set(self.manifest.files)
        for name in _walk(self.path):
            if name not in listed and name != MANIFEST:
                raise BundleTamperedError(f"{self.path}: {name!r} is not listed in the manifest; remove it")
        for name in sorted(listed):
            self.read(name)

    def names(self, folder: str) -> list[str]:
        """Return the listed files below a folder, sorted."""
        return sorted(name for name in self.manifest.files if name.startswith(f"{folder}/"))


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and check every file in it.

    Raises:
        BundleError: there is no bundle, its manifest is malformed, or it is of another schema version.
        BundleTamperedError: a file is not the one the manifest describes; the message names the file.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(f"no bundle at {folder}: wanted a folder holding {MANIFEST}")
    try:
        raw = _read_regular(folder, MANIFEST, _MANIFEST_LIMIT)
    except BundleTamperedError as error:
        raise BundleError(f"no readable bundle at {folder}: {error}") from error
    if len(raw) > _MANIFEST_LIMIT:
        raise BundleError(f"{folder}: {MANIFEST} is larger than {_MANIFEST_LIMIT} bytes")
    try:
        # The version first: another version's fields would only be called malformed.
        version = _Version.model_validate_json(raw).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{folder}: schema version {version}; this deploykit reads {SCHEMA_VERSION}: export again"
            )
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the document"
        raise BundleError(f"{folder}: {MANIFEST} is not valid: {where}: {fault['msg']}") from error
    for name in manifest.files:
        check_name(folder, name)
    bundle = Bundle(folder, manifest)
    bundle.check()
    return bundle


def check_name(folder: Path, name: str) -> None:
    """Check that a name in a manifest is a plain path to a file of the bundle.

    Raises:
        BundleTamperedError: it leads elsewhere.
    """
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or "\\" in name
        or "\0" in name
        or name == MANIFEST
        or ".." in parts
        or str(PurePosixPath(name)) != name
    ):
        raise BundleTamperedError(f"{folder}: the manifest lists {name!r}, which is not a plain path inside the bundle")


def _read_regular(folder: Path, name: str, limit: int) -> bytes:
    """Read at most ``limit + 1`` bytes of a regular, singly linked file without following any symbolic link."""
    *parents, leaf = PurePosixPath(name).parts
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {error.strerror}") from error
    try:
        for part in parents:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        # O_NONBLOCK: opening a FIFO must not hang; the type is checked right after.
        descriptor = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError as error:
        raise BundleTamperedError(
            f"{folder}: {name!r} cannot be opened as a plain file inside the bundle: {error.strerror}"
        ) from error
    finally:
        os.close(directory)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleTamperedError(f"{folder}: {name!r} is not a regular file")
        raise BundleTamperedError(f"{folder}: {name!r} has {status.st_nlink} hard links; wanted a file of its own")
    try:
        with os.fdopen(descriptor, "rb") as file:
            # Never ask for more than there is: the limit comes from the manifest and may be any number.
            return file.read(min(limit, status.st_size) + 1)
    except OSError as error:
        raise BundleError(f"{folder}: {name!r} cannot be read: {error.strerror}") from error


def _refuse(error: OSError) -> None:
    # os.walk passes over folders it cannot read, and so over files nobody listed.
    raise BundleError(f"{error.filename} cannot be read: {error.strerror}") from error


def _walk(folder: Path) -> list[str]:
    found: list[str] = []
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=False):
        for name in (*files, *(part for part in folders if (Path(root) / part).is_symlink())):
            found.append((Path(root) / name).relative_to(folder).as_posix())
    return sorted(found)
