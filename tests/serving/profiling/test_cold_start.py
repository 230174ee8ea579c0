"""Cold start and memory: both load a variant in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploykit.errors import ServingError
from deploykit.registry import installed
from deploykit_serving.profiling.cold_start import cold_start
from deploykit_serving.profiling.fresh_process import run_fresh
from deploykit_serving.profiling.memory import memory
from tests.serving.profiling.tiny_bundles import FEATURES, write_tiny

WEIGHT_MIB = 48
MARK = "DEPLOYKIT_TEST_FRESH"
PATIENCE = 120.0


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
    """A real plugin, found on this process's path only, whose runtimes crash and hang when they load a model."""
    installed()  # found before: the plugin is for the processes that are started
    (tmp_path / "faulty_runtimes.py").write_text(
        textwrap.dedent("""
        import os, signal, subprocess, sys, time
        from pathlib import Path
        from deploykit.cards import RuntimeCard
        from deploykit.hookspecs import hookimpl
        from deploykit.runtime import Runtime

        deploykit_contract = 1

        class Crashing(Runtime):
            def open_session(self, model, options):
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
                print("about to crash", flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)

        class Hanging(Runtime):
            def open_session(self, model, options):
                Path(os.environ["DEPLOYKIT_TEST_FRESH"], "hangs").touch()
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
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(MARK, str(tmp_path))


@pytest.fixture
def _no_process_left(tmp_path: Path) -> Iterator[None]:
    """Look for processes that were started from here, and end those that a fault has left."""
    yield
    patience = time.monotonic() + PATIENCE
    while (alive := _marked(tmp_path)) and time.monotonic() < patience:
        time.sleep(0.05)
    for process in alive:
        os.kill(process, signal.SIGKILL)
    assert not alive


def _marked(folder: Path) -> list[int]:
    """Return the processes beside this one that carry the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marks = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{MARK}={folder}".encode() in marks and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


@pytest.mark.usefixtures("_faulty_runtimes", "_no_process_left")
def test_a_crash_and_a_hang_are_errors_with_last_words(tiny: Path) -> None:
    with pytest.raises(
        ServingError, match=r"(?s)hard@crashing/1 .* crashed with SIGSEGV; last words: .*about to crash"
    ):
        memory(tiny, "hard", "crashing")
    with pytest.raises(ServingError, match=r"hard@hanging/1 .* did not end within 5 s; last words: "):
        run_fresh(tiny, "hard", "hanging", 1, batch=None, timeout=5.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
@pytest.mark.usefixtures("_faulty_runtimes", "_no_process_left")
def test_a_killed_caller_leaves_no_process_behind(tiny: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from deploykit_serving.profiling.fresh_process import run_fresh
run_fresh(Path(sys.argv[1]), "hard", "hanging", 1, batch=None, timeout=3600.0)
"""
    path = os.pathsep.join(item or os.getcwd() for item in sys.path)
    caller = subprocess.Popen([sys.executable, "-c", program, str(tiny)], env={**os.environ, "PYTHONPATH": path})
    try:
        patience = time.monotonic() + PATIENCE
        while not (tmp_path / "hangs").exists():
            assert caller.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.02)
        assert len(_marked(tmp_path)) == 2
    finally:
        caller.kill()
        caller.wait()
