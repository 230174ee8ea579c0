"""The hard form as a runtime: what it cannot open is told; what it answers the contract suite compares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploykit.errors import BundleError, ServingError
from deploykit_serving.runtimes import open_session, open_variant
from tests.serving.profiling.tiny_bundles import sum_model, write_tiny


def test_a_bare_file_is_refused() -> None:
    with pytest.raises(
        ServingError, match="torch runs the hard form that a bundle is made of, not an ONNX file; open a"
    ):
        open_session(sum_model(), "torch")


def test_the_float_baseline_is_only_a_file(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle", baseline=sum_model())
    baseline = bundle.manifest.variant("float")
    assert baseline is not None
    with pytest.raises(
        ServingError, match="variant 'float' is the float baseline, of which a bundle keeps only the file"
    ):
        open_variant(bundle, baseline, "torch")


def test_a_bundle_without_a_soft_form_is_refused(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle")
    with pytest.raises(BundleError, match="it was made from a ready file and holds no soft form"):
        open_variant(bundle, bundle.manifest.hard_variants[0], "torch")


def test_asking_every_runtime_imports_no_torch_but_the_one_that_is() -> None:
    program = (
        "import sys; from deploykit.making import make_runtime; from deploykit import installed; "
        "reasons = [make_runtime(name).missing() for name in installed().runtimes]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
