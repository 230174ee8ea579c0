"""Bundles whose proofs failed are not served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploykit import open_bundle
from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle, write_bundle
from deploykit.errors import BundleError, ServingError
from deploykit_serving.proofs import VERIFICATION, check_proofs

MANIFEST: dict[str, Any] = {
    "name": "m",
    "created": "2026-01-01T00:00:00Z",
    "method": "plain.passthrough",
    "signature": {"inputs": [{"name": "x", "shape": ["batch"]}], "outputs": [{"name": "y", "shape": ["batch"]}]},
    "variants": [{"name": "onnx", "file": "models/onnx.onnx"}],
}


def bundle_with(tmp_path: Path, *proofs: tuple[str, str]) -> Bundle:
    content = {"proofs": [{"name": name, "status": status, "detail": "off by 3"} for name, status in proofs]}
    files = {"models/onnx.onnx": b"", VERIFICATION: json.dumps(content).encode()}
    return write_bundle(tmp_path / "m.bundle", MANIFEST, files)


def test_a_failed_proof_stops_the_server(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, ("oracle", "passed"), ("parity onnx", "failed"))
    with pytest.raises(ServingError, match=r"proof 'parity onnx' failed: off by 3\. Mend it .* --accept REASON"):
        check_proofs(bundle)


def test_an_accepted_failure_is_served(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, ("parity onnx", "failed"))
    accepted = ({"proof": "parity onnx", "reason": "known", "when": "2026-01-01T00:00:00Z"},)
    check_proofs(extend_bundle(bundle, {}, {"accepted": accepted}))


def test_accepting_one_failure_does_not_accept_another(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, ("parity onnx", "failed"), ("http", "failed"))
    accepted = ({"proof": "parity onnx", "reason": "known", "when": "2026-01-01T00:00:00Z"},)
    with pytest.raises(ServingError, match="proof 'http' failed"):
        check_proofs(extend_bundle(bundle, {}, {"accepted": accepted}))


@pytest.mark.parametrize("status", ["passed", "marked", "not run"])
def test_what_did_not_fail_is_served(tmp_path: Path, status: str) -> None:
    check_proofs(bundle_with(tmp_path, ("oracle", status)))


def test_a_bundle_without_proofs_is_served_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bundle(tmp_path / "m.bundle", MANIFEST, {"models/onnx.onnx": b""})
    check_proofs(open_bundle(tmp_path / "m.bundle"))
    assert "m was never verified: deploykit verify" in caplog.text


def test_a_malformed_report_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "m.bundle", MANIFEST, {"models/onnx.onnx": b"", VERIFICATION: b"[1, 2"})
    with pytest.raises(BundleError, match="not a report of deploykit verify"):
        check_proofs(bundle)
