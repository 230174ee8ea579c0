"""A deployment file is served only while everything holds that it was selected by."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from deploykit.errors import BundleError, BundleTamperedError, ServingError
from deploykit.runtime import Runtime, RuntimeOptions, Session
from deploykit.testing import offered
from deploykit_serving.introduction import summary
from deploykit_serving.loading import load_models
from deploykit_serving.protocol.faults import RequestFault
from deploykit_serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from deploykit_serving.settings import ServingSettings
from deploykit_serving.threads import lanes
from tests.serving.conftest import WriteAffine, affine_manifest
from tests.serving.deployment_files import deployed, name_of, proven, three, write_deployment

VARIANTS = [{"name": name, "file": "models/onnx.onnx"} for name in ("slow", "middle", "fast")]


@pytest.fixture
def bundle(tmp_path: Path, write_affine: WriteAffine) -> Path:
    return proven(write_affine(tmp_path, variants=VARIANTS))


def test_variants_of_several_bundles_and_runtimes_are_one_model(
    tmp_path: Path, bundle: Path, write_affine: WriteAffine
) -> None:
    other = proven(write_affine(tmp_path, "other"))
    file = write_deployment(
        tmp_path,
        deployed(other, "onnx", 5, 0.99),
        deployed(bundle, "fast", 1, None, threads=2),
        floors={"accuracy": 0.9},
    )
    models = load_models([file, bundle])
    assert list(models) == ["chosen", "affine"]
    model = models["chosen"]
    names = ["other/onnx@onnxruntime-cpu/1", "affine/fast@onnxruntime-cpu/1"]
    assert list(model.variants) == names
    assert model.default.name == names[0]
    assert model.variant("fast") is model.variants[names[1]]
    assert all(0 < variant.seconds < 10 for variant in model.variants.values())  # warmed up
    assert json.loads(model.metadata)["parameters"] == {
        "variants": ",".join(names), "default_variant": names[0],
        "latency_percentile": "p99", "latency_budget_ms": 500.0,
    }  # fmt: skip
    text = summary(model)
    assert "onnx@onnxruntime-cpu/1 (metric 0.99, p99 5 ms at batch 1, warm run " in text
    assert "fast@onnxruntime-cpu/1 (metric unknown, p99 1 ms at batch 1, warm run " in text
    assert "parameter latency_budget_ms or header latency-budget-ms" in text
    assert "warning" not in text


def test_a_short_name_that_two_variants_have_means_neither(
    tmp_path: Path, bundle: Path, write_affine: WriteAffine
) -> None:
    other = proven(write_affine(tmp_path, "other", variants=VARIANTS))
    file = write_deployment(tmp_path, deployed(bundle, "fast", 1, 0.9), deployed(other, "fast", 1, 0.9))
    model = load_models([file])["chosen"]
    with pytest.raises(RequestFault, match=r"has no variant 'fast'; there are: affine/fast@.*other/fast@"):
        model.variant("fast")


def test_a_changed_or_rewritten_bundle_is_refused(tmp_path: Path, bundle: Path, write_affine: WriteAffine) -> None:
    file = write_deployment(tmp_path, *three(bundle))
    model = bundle / "models/onnx.onnx"
    good = model.read_bytes()
    model.write_bytes(good[:-1] + b"\x00")
    with pytest.raises(BundleTamperedError, match=r"'models/onnx\.onnx' was changed"):
        load_models([file])
    model.write_bytes(good)
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace("2026-01-01", "2026-01-02"))
    with pytest.raises(ServingError, match=r"affine\.bundle is not the bundle that was selected: its manifest.*again"):
        load_models([file])
    with pytest.raises(BundleError, match="no bundle at"):
        load_models(
            [write_deployment(tmp_path, *(item.model_copy(update={"bundle": "gone"}) for item in three(bundle)))]
        )


def test_another_hosts_latencies_are_refused_unless_asked_for(
    tmp_path: Path, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_deployment(tmp_path, *three(bundle), host="0123456789ab")
    with pytest.raises(ServingError, match=r"measured on host 0123456789ab, this is .*--foreign-latencies"):
        load_models([file])
    with caplog.at_level(logging.WARNING, "deploykit.serving"):
        model = load_models([file], foreign_latencies=True)["chosen"]
    assert "latencies that may not hold here: measured on host 0123456789ab" in caplog.text
    assert "warning   latencies may not hold here: measured on host 0123456789ab" in summary(model)
    facts = json.loads(model.metadata)["parameters"]
    assert facts["foreign_latencies"].startswith("measured on host 0123456789ab")


def test_another_version_of_the_runtime_is_as_foreign(tmp_path: Path, bundle: Path) -> None:
    file = write_deployment(tmp_path, *three(bundle, runtime_version="onnxruntime 0.1"))
    with pytest.raises(ServingError, match=r"measured with 'onnxruntime 0\.1', here is 'onnxruntime [1-9]"):
        load_models([file])
    assert load_models([file], foreign_latencies=True)["chosen"].choice


class Absent(Runtime):
    def missing(self) -> str:
        return "wants a machine with wings; build one"

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        raise AssertionError("it is missing")


class Remembers(Runtime):
    """Opens as the reference does, and remembers how."""

    opened: list[RuntimeOptions] = []  # noqa: RUF012 - the class is what the registry makes anew

    def version(self) -> str:
        return "7"

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        self.opened.append(options)
        return OnnxRuntimeCpu().open_session(model, options)


class Refuses(Runtime):
    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        raise ServingError("no kernel for MatMul")


def test_a_missing_runtime_is_named_with_variant_and_mending(tmp_path: Path, bundle: Path) -> None:
    file = write_deployment(tmp_path, *three(bundle, runtime="unheard-of"))
    with pytest.raises(ServingError, match="affine/slow@unheard-of/1' needs the runtime 'unheard-of': no runtime "):
        load_models([file], foreign_latencies=True)
    with offered(runtimes={"absent": Absent}):
        file = write_deployment(tmp_path, *three(bundle, runtime="absent"))
        with pytest.raises(
            ServingError, match=r"'affine/slow@absent/1' needs.*cannot run here: wants.*; build one; or"
        ):
            load_models([file])


def test_every_variant_gets_its_runtime_and_threads(tmp_path: Path, bundle: Path) -> None:
    bundle = proven(bundle, "remembers", "refuses")
    with offered(runtimes={"remembers": Remembers, "refuses": Refuses}):
        file = write_deployment(
            tmp_path, deployed(bundle, "slow", 5, 0.9, runtime="remembers", runtime_version="7", threads=3)
        )
        model = load_models([file])["chosen"]
        assert Remembers.opened == [RuntimeOptions(threads=3)]
        assert lanes(ServingSettings(threads=256), [model]) == 1
        file = write_deployment(tmp_path, deployed(bundle, "slow", 5, 0.9, runtime="refuses", runtime_version=""))
        with pytest.raises(ServingError, match=r"variant 'affine/slow@refuses/1': .*no kernel for MatMul"):
            load_models([file])


def test_variants_that_answer_other_requests_are_refused(
    tmp_path: Path, bundle: Path, write_affine: WriteAffine
) -> None:
    signature = affine_manifest()["signature"]
    signature["inputs"][0]["maximum"] = 11
    for name, changes, words in (
        ("wider", {"signature": signature}, "its signature is another"),
        ("boxes", {"decoder": "text.boxes"}, "its decoder is text.boxes with {}, not none"),
    ):
        other = proven(write_affine(tmp_path, name, **changes))
        file = write_deployment(tmp_path, deployed(bundle, "slow", 5, 0.9), deployed(other, "onnx", 1, 0.8))
        with pytest.raises(ServingError, match=rf"'{name}/onnx@.* cannot answer the requests that .*: {words}"):
            load_models([file])


def test_self_tests_and_proofs_count_as_for_bundles(
    tmp_path: Path, write_affine: WriteAffine, samples: Callable[..., bytes]
) -> None:
    wrong = proven(write_affine(tmp_path, files={"samples/heldout.npz": samples(offset=0.5)}))
    with pytest.raises(ServingError, match=r"'affine/onnx@onnxruntime-cpu/1' failed its self-test"):
        load_models([write_deployment(tmp_path, deployed(wrong, "onnx", 5, 0.9))])
    report = json.dumps({"proofs": "none"}).encode()
    unreadable = write_affine(tmp_path, "unreadable", files={"proofs/verify.json": report})
    with pytest.raises(BundleError, match="not a report of deploykit verify"):
        load_models([write_deployment(tmp_path, deployed(unreadable, "onnx", 5, 0.9))])


def test_a_variant_is_served_only_where_its_answers_are_proven(
    tmp_path: Path, bundle: Path, write_affine: WriteAffine
) -> None:
    with offered(runtimes={"remembers": Remembers}):
        elsewhere = deployed(bundle, "fast", 1, 0.9, runtime="remembers", runtime_version="7")
        file = write_deployment(tmp_path, deployed(bundle, "slow", 5, 0.9), elsewhere)
        # What is proven in one runtime is not in another, though it is the same file.
        words = r"fast@remembers/1' is not proven: .*in remembers: .*affine\.bundle --runtime remembers; then"
        with pytest.raises(ServingError, match=words):
            load_models([file])
        assert len(load_models([file], unproven=True)["chosen"].variants) == 2
        proven(bundle, "onnxruntime-cpu", "remembers")
        both = (item.model_copy(update={"manifest_sha256": deployed(bundle, "slow", 5, 0.9).manifest_sha256})
                for item in (deployed(bundle, "slow", 5, 0.9), elsewhere))  # fmt: skip
        assert len(load_models([write_deployment(tmp_path, *both)])["chosen"].variants) == 2
    never = write_affine(tmp_path, "never")
    file = write_deployment(tmp_path, deployed(never, "onnx", 5, 0.9))
    with pytest.raises(ServingError, match=r"never/onnx@.*not proven: never verified: deploykit verify .*select again"):
        load_models([file])
    assert load_models([file], unproven=True)["chosen"].variants


def test_unknown_variants_and_percentiles_are_named(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(ServingError, match="has no variant 'quick'; there are: slow, middle, fast"):
        load_models([write_deployment(tmp_path, deployed(bundle, "quick", 5, 0.9))])
    file = write_deployment(tmp_path, *three(bundle), percentile=0.999)
    with pytest.raises(ServingError, match=rf"'{name_of('slow')}': p99\.9 is known at no batch size; profile longer"):
        load_models([file])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no deployment file"),
        ("{}", "is no deployment file: version: Field required"),
        ("[" * 2000, "is no deployment file"),
        ('{"version": 2}', "version 2; this deploykit reads 1: select again"),
        ('{"version": 1, "name": "a"}', "is no deployment file: created: Field required; select again"),
    ],
)
def test_what_is_no_deployment_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "deployment.json"
    file.write_text(text)
    with pytest.raises(ServingError, match=words):
        load_models([file])


def test_a_missing_file_and_a_taken_name_are_said(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(ServingError, match=r"no deployment file at .*gone\.json: No such file.*deploykit select -o"):
        load_models([tmp_path / "gone.json"])
    file = write_deployment(tmp_path, *three(bundle), name="affine")
    with pytest.raises(ServingError, match=r"called 'affine': .*affine\.bundle and .*deployment\.json; .* --name"):
        load_models([bundle, file])
    with pytest.raises(ServingError, match="variant name 'a\\\\r\\\\nb: c' must be plain ASCII"):
        load_models([write_deployment(tmp_path, deployed(bundle, "slow", 5, 0.9, name="a\r\nb: c"))])
