"""From a bundle, or a deployment file, to a loaded model: every file checked, sessions warmed up and self-tested."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.bundle import Bundle, open_bundle
from deploykit.decoder import Decoder
from deploykit.errors import DeploykitError, ServingError
from deploykit.hard_form import Tolerance
from deploykit.making import make_decoder
from deploykit.manifest import Manifest
from deploykit.signature import Arrays
from deploykit_serving.choice.opening import (
    SUFFIX,
    accepted_foreign,
    measured_variants,
    open_variants,
    read_deployment,
)
from deploykit_serving.models import LoadedModel, Variant
from deploykit_serving.proofs import check_proofs
from deploykit_serving.runtimes import REFERENCE, RuntimeOptions, open_variant
from deploykit_serving.samples import HeldOut, held_out, made_up
from deploykit_serving.selection.deployment import Deployment

TARGET: Final = "onnxruntime"
_WARM_UP_RUNS: Final = 16
_WARM_UP_SECONDS: Final = 1.0
_TEST_ROWS: Final = 32
_log = logging.getLogger("deploykit.serving")


def load_models(
    paths: Sequence[Path],
    options: RuntimeOptions | None = None,
    *,
    unproven: bool = False,
    runtime: str = REFERENCE,
    foreign_latencies: bool = False,
) -> dict[str, LoadedModel]:
    """Load bundles and deployments to be served side by side.

    Args:
        paths: of bundles, and of deployment files, which end in ``.json``.
        options: how the bundles' sessions run; a deployment says itself how its do.
        unproven: also those whose proofs failed.
        runtime: the registered runtime that executes the bundles' files; a deployment names its own.
        foreign_latencies: also deployments that were measured elsewhere.

    Raises:
        ServingError: two have one name, a proof failed, one does not answer as its samples say, or a deployment is not
            what was selected.
        BundleError: a bundle cannot be read, or was changed after it was written.
    """
    models: dict[str, LoadedModel] = {}
    owners: dict[str, Path] = {}
    for path in paths:
        source = read_deployment(path) if path.suffix == SUFFIX else open_bundle(path)
        name = source.name if isinstance(source, Deployment) else source.manifest.name
        if name in owners:
            raise ServingError(
                f"two bundles are called {name!r}: {owners[name]} and {path}; export one of them under another name, "
                "or select a deployment with --name"
            )
        owners[name] = path
        if isinstance(source, Deployment):
            models[name] = load_deployment(path, source, unproven=unproven, foreign_latencies=foreign_latencies)
            continue
        if not unproven:
            check_proofs(source)
        models[name] = load_model(source, options, runtime)
    return models


def load_model(bundle: Bundle, options: RuntimeOptions | None = None, runtime: str = REFERENCE) -> LoadedModel:
    """Load one bundle: open a session for each variant, warm them up and test the hard ones.

    Raises:
        ServingError: no variant is for ONNX Runtime, the runtime refuses one, or the self-test fails; says by how much.
        BundleError: a file was changed, or the samples cannot be read.
    """
    manifest = bundle.manifest
    entries = [entry for entry in manifest.variants if TARGET in entry.targets]
    # The default is the first writing of the hard form; a float baseline is served only to those who name it.
    entries.sort(key=lambda entry: entry.role != "hard")
    if not entries or entries[0].role != "hard":
        raise ServingError(f"{bundle.path}: no variant of the hard form is written for {TARGET!r}; export one")
    decoder = _decoder(bundle)
    variants = {}
    for entry in entries:
        try:
            session = open_variant(bundle, entry, runtime, options)
        except ServingError as error:
            raise ServingError(f"{bundle.path}: variant {entry.name!r}: {error}") from error
        variants[entry.name] = Variant(entry, session)
    model = LoadedModel(manifest, variants, decoder)
    samples = _samples(bundle, model.name)
    for variant in variants.values():
        _warm_up(model, variant, samples)
    for variant in variants.values():
        _try_out(model, variant, samples, manifest)
    return model


def load_deployment(
    path: Path, deployment: Deployment, *, unproven: bool = False, foreign_latencies: bool = False
) -> LoadedModel:
    """Load what a deployment file names, as one model.

    Raises:
        ServingError: its latencies do not count here, a bundle is not the selected one, a runtime is missing or
            refuses its variant, or a self-test fails.
        BundleError: a bundle cannot be read, or was changed after it was written.
    """
    foreign = accepted_foreign(path, deployment, accept=foreign_latencies)
    opened = open_variants(path, deployment, unproven=unproven)
    measured = measured_variants(path, deployment, opened, foreign)
    variants = {found.deployed.name: Variant(found.entry, found.session, found.deployed.name) for found in opened}
    first = opened[0].bundle
    model = LoadedModel(first.manifest, variants, _decoder(first), deployment.name, measured)
    for found, variant in zip(opened, variants.values(), strict=True):
        samples = _samples(found.bundle, variant.name)
        _warm_up(model, variant, samples)
        _try_out(model, variant, samples, found.bundle.manifest)
    return model


def _samples(bundle: Bundle, name: str) -> HeldOut | None:
    samples = held_out(bundle)
    if samples is None:
        _log.warning("%s: no held-out samples, so %r is served without a self-test", bundle.path, name)
    return samples


def _decoder(bundle: Bundle) -> Decoder | None:
    manifest = bundle.manifest
    if not manifest.decoder:
        return None
    try:
        return make_decoder(manifest.decoder, manifest.decoder_config)
    except DeploykitError as error:
        raise ServingError(f"{bundle.path}: its decoder cannot be made: {error}") from error


def _try_out(model: LoadedModel, variant: Variant, samples: HeldOut | None, manifest: Manifest) -> None:
    if samples is not None and variant.entry.role == "hard":
        self_test(model, variant, samples, manifest.promise.tolerance.value())


def _warm_up(model: LoadedModel, variant: Variant, samples: HeldOut | None) -> None:
    inputs = made_up(model.signature)
    if samples is not None:
        inputs = next(samples.parts(model.signature.batched, 1)).inputs
    variant.elements = max(1, sum(array.size for array in inputs.values()))
    try:
        model.check(variant, inputs)
        outputs = variant.session.run(inputs)
        model.signature.check_outputs(_finite(outputs))
        if model.decoder is not None:
            model.decoder.decode(outputs)
    except Exception as error:  # whatever the runtime or a decoder raises, the model cannot serve
        raise ServingError(f"model {model.name!r}, variant {variant.name!r}: the warm-up failed: {error}") from error
    times: list[float] = []
    while len(times) < _WARM_UP_RUNS and sum(times) < _WARM_UP_SECONDS:
        started = time.perf_counter()
        variant.session.run(inputs)
        times.append(time.perf_counter() - started)
    variant.seconds = statistics.median(times)


def _finite(outputs: Arrays) -> Arrays:
    # Inputs without meaning may well give infinities; names, dtypes and shapes must still be right.
    return {name: np.zeros_like(array) if array.dtype.kind == "f" else array for name, array in outputs.items()}


def self_test(model: LoadedModel, variant: Variant, samples: HeldOut, tolerance: Tolerance) -> None:
    """Run the bundle's samples and compare with the answers the hard form gave when the bundle was written.

    Raises:
        ServingError: an answer is further off than the bundle's promise allows; gives the numbers.
    """
    rows = _TEST_ROWS if variant.entry.dynamic_batch else 1
    for part in samples.parts(model.signature.batched, rows):
        answers = variant.session.run(part.inputs)
        for name, wanted in part.outputs.items():
            if fault := _difference(answers, name, wanted, tolerance):
                raise ServingError(
                    f"model {model.name!r}, variant {variant.name!r} failed its self-test: {fault}; "
                    "it is not served: run 'deploykit verify' on the bundle, or export again"
                )


def _difference(answers: Mapping[str, NDArray[Any]], name: str, wanted: NDArray[Any], tolerance: Tolerance) -> str:
    got = answers.get(name)
    if got is None:
        return f"the samples have an output {name!r}, the model gives {', '.join(answers)}"
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"output {name!r}: wanted {wanted.dtype}{list(wanted.shape)}, got {got.dtype}{list(got.shape)}"
    if wanted.dtype.kind not in "fiu":
        off = got != wanted
        return f"output {name!r} differs in {off.sum()} of {off.size} values" if off.any() else ""
    both_nan = np.isnan(got) & np.isnan(wanted) if wanted.dtype.kind == "f" else np.zeros(wanted.shape, bool)
    # 64-bit integers are subtracted as Python's, which neither wrap around nor lose digits.
    wide = {"f": np.dtype(np.float64)}.get(wanted.dtype.kind, np.dtype(object))
    with np.errstate(invalid="ignore"):
        distance = np.abs(got.astype(wide) - wanted.astype(wide)).astype(np.float64)
    allowed = tolerance.absolute + tolerance.relative * np.abs(wanted.astype(np.float64))
    # Not `distance > allowed`: a NaN must count as a failure, unless the reference has it too.
    off = ~((distance <= allowed) | (got == wanted) | both_nan)
    if not off.any():
        return ""
    return (
        f"output {name!r} is off by up to {np.nanmax(distance):.3g} in {int(off.sum())} of {off.size} numbers "
        f"(allowed: {tolerance.absolute:g} absolute + {tolerance.relative:g} relative)"
    )
