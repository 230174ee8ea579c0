"""From a deployment file to a loaded model: everything it was chosen by must still be true on this machine."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from deploykit.bundle import MANIFEST, Bundle, open_bundle
from deploykit.errors import ServingError
from deploykit.making import make_runtime
from deploykit.manifest import Manifest, VariantEntry
from deploykit.runtime import RuntimeOptions
from deploykit_serving.choice.measured import MeasuredVariants
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.proofs import check_proofs
from deploykit_serving.runtimes import Session, open_variant
from deploykit_serving.selection.deployment import DEPLOYMENT_VERSION, Deployed, Deployment
from deploykit_serving.selection.proven import Proven, read_proofs

SUFFIX: Final = ".json"
_LIMIT: Final = 16 << 20
_SENDABLE: Final = re.compile(r"[\x21-\x7e]{1,400}")  # names go into response headers
_log = logging.getLogger("deploykit.serving")


class _Version(BaseModel):
    version: int


class OpenedVariant:
    """A variant of a deployment with its open session and the bundle it is from."""

    def __init__(self, deployed: Deployed, bundle: Bundle, entry: VariantEntry, session: Session) -> None:
        self.deployed = deployed
        self.bundle = bundle
        self.entry = entry
        self.session = session


def read_deployment(path: Path) -> Deployment:
    """Read a deployment file.

    Raises:
        ServingError: there is none, it is of another version, or not as the schema says; names the field.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ServingError(f"no deployment file at {path}: {reason}; 'deploykit select -o FILE' writes one") from error
    if len(text) > _LIMIT:
        raise ServingError(f"{path} is larger than a deployment file may be ({_LIMIT} bytes)")
    try:
        # The version first: another version's fields would only be called malformed.
        version = _Version.model_validate_json(text).version
        if version != DEPLOYMENT_VERSION:
            raise ServingError(f"{path}: version {version}; this deploykit reads {DEPLOYMENT_VERSION}: select again")
        deployment = Deployment.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the document"
        raise ServingError(f"{path} is no deployment file: {where}: {fault['msg']}; select again") from error
    for variant in deployment.variants:
        if not _SENDABLE.fullmatch(variant.name):
            raise ServingError(f"{path}: variant name {variant.name!r} must be plain ASCII without spaces")
    return deployment


def foreign_reason(deployment: Deployment) -> str:
    """Return why a deployment's latencies may not hold here; empty if they were measured on such a host.

    Raises:
        ServingError: a runtime is missing here; names it, the variant and what to do.
    """
    here = fingerprint().id
    reasons = [f"measured on host {deployment.host}, this is {here}"] if deployment.host != here else []
    for variant in deployment.variants:
        version = _version_here(variant)
        if version != variant.runtime_version:
            reasons.append(f"variant {variant.name!r} measured with {variant.runtime_version!r}, here is {version!r}")
    return "; ".join(reasons)


def _version_here(variant: Deployed) -> str:
    who = f"variant {variant.name!r} needs the runtime {variant.runtime!r}"
    try:
        engine = make_runtime(variant.runtime)
        missing = engine.missing()
        version = "" if missing else engine.version()
    except Exception as error:  # a runtime may come from anybody
        raise ServingError(f"{who}: {error}; or select again, on this machine") from error
    if missing:
        raise ServingError(f"{who}, which cannot run here: {missing}; or select again, on this machine")
    return version


def open_variants(path: Path, deployment: Deployment, *, unproven: bool) -> list[OpenedVariant]:
    """Open every variant in its own runtime, with the threads it was measured with.

    Args:
        path: of the deployment file.
        unproven: also those whose answers nobody proved, and of bundles whose proofs failed.

    Raises:
        ServingError: a bundle is not the one that was measured, its proofs failed, it lacks the variant, nothing proves
            what the variant answers in its runtime, the runtime refuses it, or the variants do not take and give the
            same.
        BundleError: a bundle cannot be read, or was changed after it was written.
    """
    bundles: dict[str, Bundle] = {}
    proofs: dict[str, Proven] = {}
    opened: list[OpenedVariant] = []
    for deployed in deployment.variants:
        bundle = bundles.get(deployed.bundle)
        if bundle is None:
            bundle = bundles[deployed.bundle] = open_bundle(path.parent / deployed.bundle)
            if not unproven:
                check_proofs(bundle)
                proofs[deployed.bundle] = read_proofs(bundle)
        who = f"{path}: variant {deployed.name!r}"
        digest = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
        if digest != deployed.manifest_sha256:
            raise ServingError(
                f"{who}: {bundle.path} is not the bundle that was selected: its {MANIFEST} has sha256 {digest[:12]}…, "
                f"the deployment says {deployed.manifest_sha256[:12]}…; select again"
            )
        entry = bundle.manifest.variant(deployed.variant)
        if entry is None:
            known = ", ".join(variant.name for variant in bundle.manifest.variants)
            raise ServingError(f"{who}: {bundle.path} has no variant {deployed.variant!r}; there are: {known}")
        # A runtime computes in its own way: proofs of the file in another one say nothing of this one.
        if not unproven and (missing := proofs[deployed.bundle].missing(deployed.variant, deployed.runtime)):
            raise ServingError(f"{who} is not proven: {missing}; then select again")
        if opened and (fault := _difference(opened[0].bundle.manifest, bundle.manifest)):
            raise ServingError(
                f"{who} cannot answer the requests that {opened[0].deployed.name!r} answers: {fault}; deploy them apart"
            )
        try:
            session = open_variant(bundle, entry, deployed.runtime, RuntimeOptions(threads=deployed.threads))
        except ServingError as error:
            raise ServingError(f"{who}: {error}") from error
        opened.append(OpenedVariant(deployed, bundle, entry, session))
    return opened


def accepted_foreign(path: Path, deployment: Deployment, *, accept: bool) -> str:
    """Return why a deployment's latencies may not hold here, if somebody accepted that; empty if they do hold.

    Args:
        accept: take latencies of another host or runtime version all the same, and say so.

    Raises:
        ServingError: they are another host's or another version's and nobody accepted that, or a runtime is missing.
    """
    foreign = foreign_reason(deployment)
    if foreign and not accept:
        raise ServingError(
            f"{path}: its latencies do not count here: {foreign}. Measure and select here (deploykit profile, "
            "deploykit select), or serve with --foreign-latencies"
        )
    if foreign:
        _log.warning("%s: served by latencies that may not hold here: %s", path, foreign)
    return foreign


def measured_variants(
    path: Path, deployment: Deployment, opened: Sequence[OpenedVariant], foreign: str
) -> MeasuredVariants:
    """Return the latencies that requests are promised by.

    Raises:
        ServingError: a variant's lack the deployment's percentile.
    """
    batched = opened[0].bundle.manifest.signature.batched
    singles = [batched and not found.entry.dynamic_batch for found in opened]
    try:
        return MeasuredVariants.of(deployment, singles, foreign)
    except ValueError as error:
        raise ServingError(f"{path}: {error}; profile longer and select again") from error


def _difference(first: Manifest, other: Manifest) -> str:
    if other.signature != first.signature:
        return "its signature is another"
    if (other.decoder, other.decoder_config) != (first.decoder, first.decoder_config):
        return f"its decoder is {other.decoder or 'none'} with {other.decoder_config}, not {first.decoder or 'none'}"
    return ""
