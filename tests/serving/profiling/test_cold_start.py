"""Cold start and memory: both load a variant in processes of their own."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploykit.errors import ServingError
from deploykit_serving.profiling.cold_start import cold_start
from deploykit_serving.profiling.fresh_process import run_fresh
from deploykit_serving.profiling.memory import memory
from tests.serving.profiling.tiny_bundles import FEATURES, write_tiny

WEIGHT_MIB = 48


def _heavy_model() -> bytes:
    """The sum of each row, with 48 MiB of weights that cannot be folded away."""
    random = np.random.default_rng(0)
    columns = WEIGHT_MIB * 2**20 // 4 // FEATURES
    weights = [
        onnx.numpy_helper.from_array(random.standard_normal((FEATURES, columns), dtype=np.float32), "w"),
        onnx.numpy_helper.from_array(np.array([1]), "axes"),
    ]
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"]),
        onnx.helper.make_node("ReduceSum", ["h", "axes"], ["y"], keepdims=1),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["batch", size]) for name, size in (("x", FEATURES), ("y", 1))]
    graph = onnx.helper.make_graph(nodes, "heavy", ends[:1], ends[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("cold") / "tiny.bundle").path


def test_cold_start_has_its_three_parts(tiny: Path) -> None:
    found = cold_start(tiny, "hard")
    assert found.import_ms > 1.0  # numpy and ONNX Runtime cannot be imported in less
    assert found.load_ms > 0.0
    assert found.first_ms > 0.0
    with pytest.raises(ValueError, match="a median takes 3 processes, got 2"):
        cold_start(tiny, "hard", processes=2)


def test_memory_grows_with_the_weights(tmp_path: Path, tiny: Path) -> None:
    heavy = write_tiny(tmp_path / "heavy.bundle", hard=_heavy_model()).path
    small, large = memory(tiny, "hard"), memory(heavy, "hard", batch=4)
    assert small is not None
    assert large is not None
    assert small.peak_mib >= 0.0
    assert large.loaded_mib - small.loaded_mib > 0.8 * WEIGHT_MIB
    assert large.peak_mib >= large.loaded_mib - 1.0
    # Four rows of the product are alive during a run: four times the columns, as many bytes as the weights have.
    assert large.peak_mib - small.peak_mib > 1.6 * WEIGHT_MIB


def test_a_variant_that_is_not_there_is_an_error_in_words(tiny: Path) -> None:
    with pytest.raises(ServingError, match=r"nix@onnxruntime-cpu/1 of tiny\.bundle in a fresh process: .*no variant"):
        memory(tiny, "nix")
    with pytest.raises(ServingError, match="engine-of-mars"):
        memory(tiny, "hard", "engine-of-mars")


@pytest.fixture
def _faulty_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real plugin, found as anybody's is, whose runtimes crash and hang when they load a model."""
    (tmp_path / "faulty_runtimes.py").write_text(
        textwrap.dedent("""
        import os, signal, sys, time
        from deploykit.cards import RuntimeCard
        from deploykit.hookspecs import hookimpl
        from deploykit.runtime import Runtime

        deploykit_contract = 1

        class Crashing(Runtime):
            def open_session(self, model, options):
                print("about to crash", flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)

        class Hanging(Runtime):
            def open_session(self, model, options):
                time.sleep(3600)

        @hookimpl
        def deploykit_runtimes():
            for name, what in (("crashing", "Crashing"), ("hanging", "Hanging")):
                yield RuntimeCard(name=name, summary="for tests", implementation=f"faulty_runtimes:{what}")
        """)
    )
    folder = tmp_path / "faulty_runtimes-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-runtimes\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[deploykit]\nfaulty = faulty_runtimes\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("_faulty_runtimes")
def test_a_crash_and_a_hang_are_errors_with_last_words(tiny: Path) -> None:
    with pytest.raises(
        ServingError, match=r"(?s)hard@crashing/1 .* crashed with SIGSEGV; last words: .*about to crash"
    ):
        memory(tiny, "hard", "crashing")
    with pytest.raises(ServingError, match=r"hard@hanging/1 .* did not end within 5 s; last words: "):
        run_fresh(tiny, "hard", "hanging", 1, batch=None, timeout=5.0)
