"""Write a bundle so that a crash, a full disk or a kill leaves the old bundle or none.

Everything goes into a temporary sibling folder, is flushed to disk and then takes the bundle's place in one step.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from deploykit.bundle import MANIFEST, SUFFIX, Bundle, check_name, open_bundle
from deploykit.errors import BundleError
from deploykit.hook_calls import call_hook
from deploykit.manifest import FileEntry, Manifest
from deploykit.registry import installed

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def write_bundle(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Bundle:
    """Publish a bundle at ``path``, replacing what was there in one step.

    Args:
        path: its folder; the name must end in ``.bundle``.
        manifest: the fields of :class:`Manifest` but for ``files``.
        files: contents by path inside the bundle.

    Raises:
        BundleError: the path is not usable or the disk did not take the files; the old bundle is untouched.
    """
    if path.suffix != SUFFIX:
        raise BundleError(f"a bundle's folder must end in {SUFFIX!r}, got {path.name!r}")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BundleError(f"{path} is a link or a file; a bundle is a folder of its own, nothing was written")
    if path.exists() and not (path / MANIFEST).is_file() and any(path.iterdir()):
        raise BundleError(f"{path} exists and is no bundle; choose another place, nothing was written")
    for name in files:
        check_name(path, name)
    listed = {name: FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    complete = Manifest.model_validate({**manifest, "files": listed})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_sibling(path) as temporary:
            for name, data in files.items():
                _write(temporary / name, data)
            _write(temporary / MANIFEST, complete.model_dump_json(indent=2).encode() + b"\n")
            _flush_folders(temporary)
            _put_in_place(temporary, path)
            # The bundle is whole and in place; only how soon the disk knows its name is left to say.
            with contextlib.suppress(OSError):
                _flush_folder(path.parent)
    except OSError as error:
        raise BundleError(
            f"{path} was not written: {error.strerror or error}; what was there before is untouched"
        ) from error
    _tell_plugins(path)
    return open_bundle(path)


def extend_bundle(
    bundle: Bundle, files: Mapping[str, bytes], changes: Mapping[str, Any] | None = None, drop: tuple[str, ...] = ()
) -> Bundle:
    """Publish a bundle again with files added or replaced; the others are read back checked.

    Args:
        changes: manifest fields that change.
        drop: files to leave out.
    """
    kept = {name: bundle.read(name) for name in bundle.manifest.files if name not in files and name not in drop}
    fields = bundle.manifest.model_dump(exclude={"files"})
    return write_bundle(bundle.path, {**fields, **(changes or {})}, {**kept, **files})


@contextlib.contextmanager
def _temporary_sibling(path: Path) -> Iterator[Path]:
    for stale in path.parent.glob(f".{path.name}.tmp-*"):
        if not _alive(stale.name.rpartition("tmp-")[2]):
            shutil.rmtree(stale, ignore_errors=True)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _alive(owner: str) -> bool:
    try:
        os.kill(int(owner.partition("-")[0]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        _flush_folder(Path(folder))


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    # A plain rename cannot replace a folder that is not empty. Linux swaps the two in one step; the old bundle is
    # then the temporary folder and goes with it.
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is not None:
        done = exchange(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE)
        if done == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(number, os.strerror(number))
    # Elsewhere there is an instant without a bundle; the old one stays beside it under a name that says so.
    backup = path.with_name(f"{path.name}.previous")
    shutil.rmtree(backup, ignore_errors=True)
    path.rename(backup)
    temporary.rename(path)
    shutil.rmtree(backup, ignore_errors=True)


def _tell_plugins(path: Path) -> None:
    for call in call_hook(installed().manager, "deploykit_bundle_written", {"path": path}):
        if call.error is not None:  # a listener must not undo a publication
            warnings.warn(f"plugin {call.plugin!r} failed in deploykit_bundle_written: {call.error}", stacklevel=2)
