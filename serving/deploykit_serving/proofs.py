"""A bundle with a failed proof is not served, unless somebody accepted the failure and gave a reason."""

from __future__ import annotations

import json
import logging
from typing import Final

from deploykit.bundle import Bundle
from deploykit.errors import BundleError, ServingError
from deploykit.proof_binding import stale_reason

VERIFICATION: Final = "proofs/verify.json"
_log = logging.getLogger("deploykit.serving")


def check_proofs(bundle: Bundle) -> None:
    """Look at what ``deploykit verify`` wrote into a bundle.

    Raises:
        ServingError: the report is about other files than the bundle holds, or a proof failed and nobody accepted it;
            names the file, or the proof and what was found.
        BundleError: the report cannot be read.
    """
    if VERIFICATION not in bundle.manifest.files:
        _log.warning("%s was never verified: deploykit verify %s", bundle.manifest.name, bundle.path)
        return
    try:
        report = json.loads(bundle.read(VERIFICATION))
        failed = {proof["name"]: proof["detail"] for proof in report["proofs"] if proof["status"] == "failed"}
        marked = {proof["name"]: proof["detail"] for proof in report["proofs"] if proof["status"] == "marked"}
        stale = stale_reason(bundle.manifest, report)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{bundle.path}: {VERIFICATION} is not a report of deploykit verify: {error}") from error
    if stale:
        raise ServingError(
            f"{bundle.path}: {VERIFICATION} is not about this bundle: {stale}. Prove it again: "
            f"deploykit verify {bundle.path}"
        )
    accepted = {acceptance.proof for acceptance in bundle.manifest.accepted}
    for name, detail in failed.items():
        if name not in accepted:
            raise ServingError(
                f"{bundle.path}: proof {name!r} failed: {detail}. Mend it and export again, or publish it all the same "
                f"with: deploykit verify {bundle.path} --accept REASON"
            )
        _log.warning("%s is served in spite of the failed proof %r", bundle.manifest.name, name)
    for variant in bundle.manifest.hard_variants[:1]:
        if detail := marked.get(f"speed {variant.name}"):
            _log.warning("%s: variant %r runs at %s", bundle.manifest.name, variant.name, detail)
