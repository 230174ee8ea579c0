"""A bundle with a failed proof is not served, unless somebody accepted the failure and gave a reason."""

from __future__ import annotations

import json
import logging
from typing import Final

from deploykit.bundle import Bundle
from deploykit.errors import BundleError, ServingError

VERIFICATION: Final = "proofs/verify.json"
_log = logging.getLogger("deploykit.serving")


def check_proofs(bundle: Bundle) -> None:
    """Look at what ``deploykit verify`` wrote into a bundle.

    Raises:
        ServingError: a proof failed and nobody accepted it; names the proof and what was found.
        BundleError: the report cannot be read.
    """
    if VERIFICATION not in bundle.manifest.files:
        _log.warning("%s was never verified: deploykit verify %s", bundle.manifest.name, bundle.path)
        return
    try:
        failed = {
            proof["name"]: proof["detail"]
            for proof in json.loads(bundle.read(VERIFICATION))["proofs"]
            if proof["status"] == "failed"
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{bundle.path}: {VERIFICATION} is not a report of deploykit verify: {error}") from error
    accepted = {acceptance.proof for acceptance in bundle.manifest.accepted}
    for name, detail in failed.items():
        if name not in accepted:
            raise ServingError(
                f"{bundle.path}: proof {name!r} failed: {detail}. Mend it and export again, or publish it all the same "
                f"with: deploykit verify {bundle.path} --accept REASON"
            )
        _log.warning("%s is served in spite of the failed proof %r", bundle.manifest.name, name)
