"""What is refused before it serves, and what the server says when it does not come up."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.errors import BundleError, BundleTamperedError, ServingError
from deploykit_serving.launch import running, serve
from deploykit_serving.loading import load_models


def test_a_flipped_byte_is_named_at_start(tmp_path: Path, write_affine: Any) -> None:
    path = write_affine(tmp_path)
    file = path / "models/onnx.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleTamperedError, match=r"'models/onnx.onnx' was changed"):
        load_models([path])
    with (
        pytest.raises(ServingError, match=r"(?s)a model cannot be served.*'models/onnx.onnx' was changed"),
        running([path], timeout=30),
    ):
        pytest.fail("the server came up")


def test_a_failing_self_test_gives_the_numbers(tmp_path: Path, write_affine: Any, samples: Any) -> None:
    path = write_affine(tmp_path, files={"samples/heldout.npz": samples(offset=0.5)})
    with pytest.raises(ServingError, match=r"'onnx' failed its self-test: output 'y' is off by up to 0.5 in 3 of 96"):
        load_models([path])


def test_the_promised_tolerance_holds_in_the_self_test(tmp_path: Path, write_affine: Any, samples: Any) -> None:
    promise = {"tolerance": {"absolute": 0.5, "relative": 0.0}}
    path = write_affine(tmp_path, files={"samples/heldout.npz": samples(offset=0.5)}, promise=promise)
    assert list(load_models([path])) == ["affine"]


def test_without_samples_it_is_served_with_a_warning(bundles: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "deploykit.serving"):
        load_models([bundles[1]])
    assert "served without a self-test" in caplog.text


def test_broken_samples_and_models_are_told(tmp_path: Path, write_affine: Any) -> None:
    with pytest.raises(BundleError, match=r"'samples/heldout\.npz' is not an npz"):
        load_models([write_affine(tmp_path, "a", files={"samples/heldout.npz": b"PK\x03\x04"})])
    with pytest.raises(ServingError, match="variant 'onnx': onnxruntime-cpu refuses the model"):
        load_models([write_affine(tmp_path, "b", files={"models/onnx.onnx": b"\x00"})])
    variants = [{"name": "onnx", "file": "models/onnx.onnx", "targets": ["tensorrt"]}]
    with pytest.raises(ServingError, match="no variant of the hard form is written for 'onnxruntime'"):
        load_models([write_affine(tmp_path, "c", variants=variants)])
    with pytest.raises(ServingError, match="its decoder cannot be made"):
        load_models([write_affine(tmp_path, "d", decoder="nobody-has-this")])


def test_two_bundles_of_one_name_are_refused(tmp_path: Path, write_affine: Any) -> None:
    paths = [write_affine(tmp_path / "one"), write_affine(tmp_path / "two")]
    with pytest.raises(ServingError, match=r"two bundles are called 'affine'.*one.*two"):
        load_models(paths)


def test_a_taken_port_and_wrong_settings_are_said(bundles: list[Path]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServingError, match="Address already in use; choose another with --port"):
            serve(bundles, port=taken.getsockname()[1])
    with pytest.raises(ServingError, match="setting 'port'"):
        serve(bundles, port=0)
    with pytest.raises(ServingError, match="nothing to serve"):
        serve([])


def test_serving_works_where_torch_cannot_be_imported(tmp_path: Path, bundles: list[Path]) -> None:
    """Block torch in every process of the server through ``sitecustomize``, then ask for an answer."""
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import sys
            class Block:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] in ("torch", "torchvision"):
                        raise ImportError(f"{name} is blocked")
            sys.meta_path.insert(0, Block())
            """
        )
    )
    program = textwrap.dedent(
        """
        import sys, numpy as np
        import deploykit, deploykit_serving
        from deploykit_serving.client import infer
        from deploykit_serving.launch import running
        try:
            import torch
        except ImportError:
            print("no torch")
        with running(sys.argv[1:]) as url:
            print(infer(url, "affine", {"x": np.ones((1, 4), np.float32)})["y"].tolist())
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, bundles)],
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.stdout == "no torch\n[[22.5, 25.5, 30.25]]\n", done.stderr


def test_nothing_is_left_running(bundles: list[Path]) -> None:

    def workers() -> set[str]:
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # Only servers of these bundles: others may come and go on this machine meanwhile.
                ours = os.fsencode(bundles[0]) in (process / "environ").read_bytes()
                if ours and b"DeploykitServer" in (process / "cmdline").read_bytes():
                    found.add(process.name)
        return found

    before = workers()
    with running(bundles) as url:
        started = workers() - before
        assert started
        assert url.startswith("http://127.0.0.1:")
    assert not started & workers()


def test_made_up_inputs_fit_their_signature() -> None:
    from deploykit.signature import Signature
    from deploykit_serving.samples import made_up

    signature = Signature.model_validate(
        {
            "inputs": [
                {"name": "image", "shape": ["batch", 3, "height", "width"], "minimum": 1, "maximum": 2},
                {"name": "below", "dtype": "int8", "shape": ["batch"], "maximum": -3},
            ],
            "outputs": [{"name": "y", "shape": ["batch"]}],
            "dims": {"height": {"multiple": 48}, "width": {"max": 8}},
        }
    )
    arrays = made_up(signature)
    assert signature.check_inputs(arrays) == {"batch": 1, "height": 48, "width": 8}
    assert np.all(arrays["below"] == -3)


def test_a_request_too_long_for_a_screen_is_not_shown(bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit_serving.introduction import example_request

    (model, *_) = load_models(bundles).values()
    assert example_request(model)
    monkeypatch.setattr("deploykit_serving.introduction._SHOWN_ELEMENTS", 0)
    assert example_request(model) == ""


def test_the_example_request_is_one_the_model_accepts(bundles: list[Path]) -> None:
    from deploykit_serving.introduction import example_request, summary
    from deploykit_serving.protocol import parse_infer_request

    model = load_models(bundles)["affine"]
    request = parse_infer_request(example_request(model).encode(), None, model.signature)
    assert model.signature.check_inputs(request.inputs) == {"batch": 1}
    assert "signature x float32[batch, 4] -> y float32[batch, 3]" in summary(model)
    assert "onnx (" in summary(model)


def test_the_command_tells_where_and_how(bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb up to the server's own loop, which the other tests run for real."""
    from typer.testing import CliRunner

    from deploykit.cli.main import app
    from deploykit_serving import launch

    def ready(*given: Any, on_ready: Any, max_body: int, runtime: str) -> None:
        assert given == (bundles, "127.0.0.1", 3001, 1)
        assert runtime == "onnxruntime-cpu"
        assert max_body == 2 << 20
        on_ready("http://127.0.0.1:3001")

    monkeypatch.setattr(launch, "serve", ready)
    shown = CliRunner().invoke(app, ["serve", *map(str, bundles), "--port", "3001", "--max-body", "2"])
    assert shown.exit_code == 0, shown.output
    for words in (
        "serving at http://127.0.0.1:3001",
        "variants  onnx (",
        "curl -s -H 'content-type: application/json'",
    ):
        assert words in shown.output
    missing = CliRunner().invoke(app, ["serve", "/nowhere.bundle"])
    assert isinstance(missing.exception, BundleError)
