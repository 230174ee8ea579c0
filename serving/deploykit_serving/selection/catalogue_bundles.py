"""The bundles of a catalogue, and whether variants of all of them can answer the same requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from deploykit.bundle import MANIFEST, SUFFIX, Bundle, open_bundle
from deploykit.errors import BundleError, ConfigError
from deploykit_serving.selection.candidates import LeftOut


def open_catalogue(paths: Sequence[Path], task: str = "") -> tuple[list[Bundle], list[LeftOut]]:
    """Open every bundle that is named or lies in a named folder, each once.

    Args:
        task: only bundles of this task; empty for all.

    Returns:
        the bundles, and those that cannot be read, with the reason.

    Raises:
        BundleError: a path leads to no bundle, or two bundles have one name.
        ConfigError: no bundle is of the task.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for folder in _folders(path):
            found.setdefault(folder.resolve(), folder)
    bundles, left_out = [], []
    owners: dict[str, Path] = {}
    for folder in found.values():
        try:
            bundle = open_bundle(folder)
        except BundleError as error:
            left_out.append(LeftOut(folder.name, str(error)))
            continue
        name = bundle.manifest.name
        if name in owners:
            raise BundleError(
                f"two bundles of the catalogue are called {name!r}: {owners[name]} and {folder}; leave one out or "
                "export it under another name"
            )
        owners[name] = folder
        bundles.append(bundle)
    wanted = [bundle for bundle in bundles if not task or bundle.manifest.task == task]
    if task and bundles and not wanted:
        there = ", ".join(sorted({bundle.manifest.task or "none" for bundle in bundles}))
        raise ConfigError(f"no bundle of the catalogue is of task {task!r}; they are of: {there}")
    return wanted, left_out


def check_interchangeable(bundles: Sequence[Bundle]) -> None:
    """Make sure that one request can be answered by a variant of any of the bundles.

    Raises:
        ConfigError: tasks, signatures or decoders differ; names the groups.
    """
    groups: dict[str, list[Bundle]] = {}
    for bundle in bundles:
        groups.setdefault(_answers_to(bundle), []).append(bundle)
    if len(groups) < 2:
        return
    lines = [
        f"  {_words(members[0])}: {', '.join(bundle.manifest.name for bundle in members)}"
        for members in groups.values()
    ]
    raise ConfigError(
        "variants of one deployment must answer the same requests, so task, signature and decoder must be the same "
        "for all bundles; these differ:\n"
        + "\n".join(lines)
        + "\ngive the bundles of one group, or its task: --task NAME"
    )


def _folders(path: Path) -> list[Path]:
    if (path / MANIFEST).exists() or path.suffix == SUFFIX:
        return [path]
    if not path.is_dir():
        raise BundleError(f"no bundle and no folder of bundles at {path}")
    # What begins with a dot is being written just now.
    inside = sorted(item for item in path.glob(f"*{SUFFIX}") if not item.name.startswith("."))
    if not inside:
        raise BundleError(f"{path} holds no bundle: wanted folders NAME{SUFFIX} in it")
    return inside


def _answers_to(bundle: Bundle) -> str:
    manifest = bundle.manifest
    signature = manifest.signature.model_dump(mode="json")
    for spec in (*signature["inputs"], *signature["outputs"]):
        del spec["description"]  # words change no answer
    return json.dumps(
        [manifest.task, signature, manifest.decoder, manifest.decoder_config], sort_keys=True, default=str
    )


def _words(bundle: Bundle) -> str:
    manifest = bundle.manifest
    inputs = ", ".join(spec.text() for spec in manifest.signature.inputs)
    outputs = ", ".join(spec.text() for spec in manifest.signature.outputs)
    decoded = f", decoder {manifest.decoder}" if manifest.decoder else ""
    return f"{f'task {manifest.task}' if manifest.task else 'no task'}, {inputs} -> {outputs}{decoded}"
