"""What a report of proofs is about: the files it read and what the manifest said of them, by hash.

A report that does not say so, or speaks of other files, proves nothing of the bundle it lies in. This finds reports
that went stale and edits by hand; it does not stop somebody who writes files, report and manifest anew with hashes
that fit. Only a signature over the manifest could do that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from deploykit.manifest import Manifest

_CLAIMS: Final = {
    "method", "config", "task", "network", "signature", "decoder", "decoder_config", "variants", "promise"
}  # fmt: skip


def proven_files(manifest: Manifest) -> dict[str, str]:
    """Return the sha256 of every file that proofs are about: variants, samples and weights."""
    models = {variant.file for variant in manifest.variants}
    return {
        name: entry.sha256
        for name, entry in sorted(manifest.files.items())
        if name in models or name.startswith(("samples/", "weights/"))
    }


def claims_digest(manifest: Manifest) -> str:
    """Return a hash over what the manifest says of its files: method, signature, variants, promise and the like."""
    claims = manifest.model_dump(mode="json", include=set(_CLAIMS))
    return hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).hexdigest()


def stale_reason(manifest: Manifest, report: Mapping[str, Any]) -> str:
    """Return why a report does not speak of this bundle, or nothing if it does."""
    files = report.get("files")
    if not isinstance(files, Mapping) or not files or "claims" not in report:
        return "it does not say which files it proved"
    present = proven_files(manifest)
    for name in sorted({*present, *files}):
        if name not in files:
            return f"{name!r} was added since"
        if name not in present:
            return f"{name!r} was removed since"
        if files[name] != present[name]:
            return f"{name!r} was changed since"
    if report["claims"] != claims_digest(manifest):
        return "the manifest's promise, signature, variants or method were changed since"
    return ""
