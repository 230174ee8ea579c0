"""Bundles whose proofs failed are not served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploykit import open_bundle
from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle, write_bundle
from deploykit.errors import BundleError, BundleTamperedError, ServingError
from deploykit.proof_binding import claims_digest, proven_files
from deploykit_serving.proofs import VERIFICATION, check_proofs
from deploykit_serving.samples import HELDOUT

MANIFEST: dict[str, Any] = {
    "name": "m",
    "created": "2026-01-01T00:00:00Z",
    "method": "plain.passthrough",
    "signature": {"inputs": [{"name": "x", "shape": ["batch"]}], "outputs": [{"name": "y", "shape": ["batch"]}]},
    "variants": [{"name": "onnx", "file": "models/onnx.onnx"}],
}


def bundle_with(tmp_path: Path, *proofs: tuple[str, str]) -> Bundle:
    return with_report(write_bundle(tmp_path / "m.bundle", MANIFEST, {"models/onnx.onnx": b"", HELDOUT: b"s"}), *proofs)


def with_report(bundle: Bundle, *proofs: tuple[str, str], **changes: Any) -> Bundle:
    content = {
        "proofs": [{"name": name, "status": status, "detail": "off by 3"} for name, status in proofs],
        "files": proven_files(bundle.manifest), "claims": claims_digest(bundle.manifest),
    } | changes  # fmt: skip
    return extend_bundle(bundle, {VERIFICATION: json.dumps(content).encode()})


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


def test_proofs_of_another_file_prove_nothing(tmp_path: Path) -> None:
    bundle = extend_bundle(bundle_with(tmp_path, ("oracle", "passed")), {"models/onnx.onnx": b"another"})
    with pytest.raises(
        ServingError,
        match=r"verify.json is not about this bundle: 'models/onnx.onnx' was changed since\. Prove it again",
    ):
        check_proofs(bundle)


def test_proofs_of_other_samples_prove_nothing(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, ("oracle", "passed"))
    with pytest.raises(ServingError, match=f"'{HELDOUT}' was changed since"):
        check_proofs(bundle := extend_bundle(bundle, {HELDOUT: b"easier"}))
    with pytest.raises(ServingError, match=f"'{HELDOUT}' was removed since"):
        check_proofs(bundle := extend_bundle(bundle, {}, drop=(HELDOUT,)))
    proven = with_report(bundle, ("oracle", "passed"))
    with pytest.raises(ServingError, match=r"'weights/soft.safetensors' was added since"):
        check_proofs(extend_bundle(proven, {"weights/soft.safetensors": b"w"}))


def test_variants_exchanged_after_the_proof(tmp_path: Path) -> None:
    variants = [{"name": "fast", "file": "models/a.onnx"}, {"name": "exact", "file": "models/b.onnx"}]
    files = {"models/a.onnx": b"a", "models/b.onnx": b"b"}
    bundle = with_report(write_bundle(tmp_path / "m.bundle", {**MANIFEST, "variants": variants}, files))
    check_proofs(bundle)
    exchanged = [{"name": "fast", "file": "models/b.onnx"}, {"name": "exact", "file": "models/a.onnx"}]
    with pytest.raises(ServingError, match="promise, signature, variants or method were changed since"):
        check_proofs(extend_bundle(bundle, {}, {"variants": exchanged}))


def test_a_promise_loosened_after_the_proof(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, ("oracle", "passed"))
    with pytest.raises(ServingError, match="promise, signature, variants or method were changed since"):
        check_proofs(extend_bundle(bundle, {}, {"promise": {"tolerance": {"absolute": 1e9}}}))


def test_engines_and_profiles_do_not_touch_the_proof(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, ("oracle", "passed"))
    check_proofs(extend_bundle(bundle, {"targets/x/onnx/onnx.plan": b"e", "profiles/host.json": b"{}"}))


@pytest.mark.parametrize("changes", [{"files": {}}, {"files": None}, {"files": "all"}])
def test_a_report_that_names_no_files_proves_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    bundle = with_report(bundle_with(tmp_path), ("oracle", "passed"), **changes)
    with pytest.raises(ServingError, match="it does not say which files it proved"):
        check_proofs(bundle)


def test_a_report_edited_by_hand_is_refused(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, ("parity onnx", "failed"))
    file = bundle.path / VERIFICATION
    file.write_text(file.read_text().replace("failed", "passed"))
    with pytest.raises(BundleTamperedError, match=r"'proofs/verify.json' was changed after the bundle was written"):
        open_bundle(bundle.path)


def test_a_variant_measured_to_be_slow_is_served_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_proofs(bundle_with(tmp_path, ("speed onnx", "marked"), ("speed qdq", "marked")))
    assert "m: variant 'onnx' runs at off by 3" in caplog.text
    assert "qdq" not in caplog.text
