"""Engines are programs: kept where only their owner writes, checked before they are loaded, built again if in doubt."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from onnx import parser

from deploykit import Bundle, Dim, Signature, TensorSpec
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import BundleTamperedError, ServingError
from deploykit.making import make_runtime
from deploykit.runtime import RuntimeOptions
from deploykit_export import tensorrt_engine
from deploykit_export.onnx_import import import_onnx
from deploykit_export.tensorrt_engine import profile_of
from deploykit_serving.runtimes.engine_cache import FOLDER_VARIABLE, EngineCache, EngineKey
from deploykit_serving.runtimes.engine_plans import BUNDLED, bundled_plan, kept_plan
from deploykit_serving.runtimes.engine_session import largest_batch
from deploykit_serving.runtimes.nvidia_gpu import Gpu, find_gpu
from deploykit_serving.runtimes.tensorrt_native import TensorRt, TensorRtRtx

RTX = "tensorrt_rtx"
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec(RTX) is None, reason="tensorrt_rtx is not installed (extra: tensorrt-rtx)"
)
MODEL = parser.parse_model(
    """<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }"""
).SerializeToString()
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 4)),), outputs=(TensorSpec(name="y", shape=("batch", 4)),)
)
KEY = EngineKey("a" * 64, RTX, "1.7", "SM89", profile_of(SIGNATURE), ("strongly typed",))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.mark.parametrize(
    "other",
    [
        {"model": "b" * 64},
        {"builder": "tensorrt"},
        {"version": "1.8"},
        {"target": "SM120"},
        {"profile": profile_of(SIGNATURE.model_copy(update={"dims": {"batch": Dim(max=16)}}))},
        {"flags": ()},
    ],
)
def test_everything_that_matters_is_in_the_key(other: dict[str, Any]) -> None:
    assert dataclasses.replace(KEY, **other).digest() != KEY.digest()
    assert dataclasses.replace(KEY).digest() == KEY.digest()


def test_only_the_owner_can_use_the_folder(cache: EngineCache) -> None:
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    cache.write("e.plan", b"engine")
    assert {path.stat().st_mode & 0o777 for path in cache.folder.iterdir()} == {0o600}
    cache.folder.chmod(0o755)
    with pytest.raises(
        ServingError, match=r"engines are programs, and .* \(mode 755\); chmod 700 it, or set DEPLOYKIT"
    ):
        EngineCache(cache.folder)


def test_a_link_is_no_folder_of_our_own(cache: EngineCache, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(cache.folder)
    with pytest.raises(ServingError, match="is not a folder that only you can use"):
        EngineCache(tmp_path / "link")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match=f"engines cannot be kept in .*; set {FOLDER_VARIABLE} to a folder of your"):
        EngineCache(tmp_path / "file" / "engines")


def test_the_folder_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert EngineCache().folder == tmp_path / "mine"
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert EngineCache().folder == tmp_path / "cache" / "deploykit" / "engines"


def test_what_was_written_is_read_and_nothing_else(cache: EngineCache) -> None:
    assert cache.read("e.plan") is None
    cache.write("e.plan", b"engine")
    assert cache.read("e.plan") == b"engine"
    assert sorted(path.name for path in cache.folder.iterdir()) == ["e.plan", "e.plan.sha256"]
    (cache.folder / "e.plan").write_bytes(b"Engine")
    assert cache.read("e.plan") is None
    cache.write("e.plan", b"engine")
    (cache.folder / "e.plan.sha256").unlink()
    assert cache.read("e.plan") is None


@needs_rtx
def test_an_engine_is_built_once_and_again_if_it_was_changed(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt_rtx

    built, build = [], tensorrt_engine.build_engine

    def counted(*given: Any, **named: Any) -> Any:
        built.append(named["target"])
        return build(*given, **named)

    monkeypatch.setattr(tensorrt_engine, "build_engine", counted)
    version = tensorrt_rtx.__version__
    first = kept_plan(MODEL, SIGNATURE, RTX, version, "SM89", cache)
    assert kept_plan(MODEL, SIGNATURE, RTX, version, "SM89", cache) == first
    assert built == ["SM89"]
    (file,) = cache.folder.glob("*.plan")
    file.write_bytes(first[:-1] + b"\0")
    again = kept_plan(MODEL, SIGNATURE, RTX, version, "SM89", cache)
    assert hashlib.sha256(again).hexdigest() in file.with_name(f"{file.name}.sha256").read_text()
    assert built == ["SM89", "SM89"]
    kept_plan(MODEL, SIGNATURE, RTX, version, "SM120", cache)
    assert built[2:] == ["SM120"]


@needs_rtx
def test_another_version_than_the_one_that_runs_is_refused(cache: EngineCache) -> None:
    with pytest.raises(ServingError, match=r"built the engine and 0\.1 would run it; start again"):
        kept_plan(MODEL, SIGNATURE, RTX, "0.1", "SM89", cache)


@needs_rtx
def test_refused_operators_are_named(cache: EngineCache) -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, 4] x) => (int64[rank, found] y) { y = NonZero(x) }"""
    refused = parser.parse_model(text).SerializeToString()
    with pytest.raises(ServingError, match=r"operators are refused: .*NonZero"):
        kept_plan(refused, SIGNATURE, RTX, "1", "SM89", cache)


def with_engine(tmp_path: Path, name: str) -> Bundle:
    bundle = import_onnx(MODEL, tmp_path / "m.bundle")
    return extend_bundle(bundle, {f"{BUNDLED}/onnx/{name}": b"engine"})


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("tensorrt_rtx-1.7.1-sm89.plan", True),
        ("tensorrt_rtx-1.7.1-sm120.plan", False),
        ("tensorrt_rtx-1.7.2-sm89.plan", False),
        ("tensorrt-1.7.1-sm89.plan", False),
        ("tensorrt-11.4.0-this-gpu.plan", False),
        ("notes.plan", False),
    ],
)
def test_an_engine_in_the_bundle_is_taken_only_where_it_fits(tmp_path: Path, name: str, fits: bool) -> None:
    bundle = with_engine(tmp_path, name)
    entry = bundle.manifest.hard_variants[0]
    assert bundled_plan(bundle, entry, RTX, "1.7.1", "SM89") == (b"engine" if fits else None)


def test_an_engine_in_the_bundle_that_was_changed_is_not_loaded(tmp_path: Path) -> None:
    bundle = with_engine(tmp_path, "tensorrt_rtx-1.7.1-sm89.plan")
    (bundle.path / BUNDLED / "onnx" / "tensorrt_rtx-1.7.1-sm89.plan").write_bytes(b"Engine")
    with pytest.raises(BundleTamperedError, match="was changed after the bundle was written"):
        bundled_plan(bundle, bundle.manifest.hard_variants[0], RTX, "1.7.1", "SM89")


def test_a_file_beside_the_engines_that_the_manifest_does_not_list_is_not_seen(tmp_path: Path) -> None:
    bundle = import_onnx(MODEL, tmp_path / "m.bundle")
    folder = bundle.path / BUNDLED / "onnx"
    folder.mkdir(parents=True)
    (folder / "tensorrt_rtx-1.7.1-sm89.plan").write_bytes(b"foreign")
    assert bundled_plan(bundle, bundle.manifest.hard_variants[0], RTX, "1.7.1", "SM89") is None


@needs_rtx
def test_a_gpu_that_there_are_no_engines_for_is_told() -> None:
    hopper = Gpu("NVIDIA H100", "580.1", "SM90")
    assert "builds for SM" in TensorRtRtx().unfit(hopper)
    assert TensorRtRtx().unfit(hopper).endswith("not for NVIDIA H100 (SM90)")
    assert TensorRtRtx().unfit(Gpu("NVIDIA L4", "580.1", "SM89")) == ""
    assert TensorRt().unfit(hopper) == ""


def test_what_an_engine_depends_on_beside_its_target() -> None:
    gpu = Gpu("NVIDIA L4", "580.1", "SM89")
    assert TensorRt().depends_on(gpu) == "NVIDIA L4 580.1"  # kernels were timed
    assert TensorRtRtx().depends_on(gpu) == ""  # kernels are made when it runs


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU")
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_without_a_gpu_nothing_is_opened(name: str, tmp_path: Path) -> None:
    runtime = make_runtime(name)
    assert runtime.missing()
    with pytest.raises(ServingError, match="there is no NVIDIA GPU"):
        runtime.open_session(MODEL, RuntimeOptions())
    bundle = import_onnx(MODEL, tmp_path / "m.bundle")
    with pytest.raises(ServingError, match="there is no NVIDIA GPU"):
        runtime.open_variant(bundle, bundle.manifest.hard_variants[0], RuntimeOptions())


class Shapes:
    """An engine as far as its shapes go."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        self.shapes = shapes

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(abs(size) * scale for size in self.shapes[name]) for scale in (1, 8, 64)]


def test_only_batches_are_cut() -> None:
    assert largest_batch(Shapes(x=(-1, 4), y=(-1, 2)), ["x"], ["y"]) == 64
    assert largest_batch(Shapes(x=(-1, 4), y=(2,)), ["x"], ["y"]) is None
    assert largest_batch(Shapes(x=(1, 4), y=(1, 2)), ["x"], ["y"]) is None
