from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import BundleError
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.merging import merged_with_earlier
from deploykit_serving.profiling.profile import ProfileOptions, measure_bundle, profile_bundle
from deploykit_serving.profiling.recorded import read_any, read_profile, recorded_hosts
from deploykit_serving.profiling.schema import Profile, profile_file
from tests.serving.profiling.tiny_bundles import slow_sum_model, write_tiny

SHORT = ProfileOptions(seconds=0.3, largest_batch=2, brief=True, canary=False)
HERE = fingerprint().id
ELSEWHERE = "0" * 12


def _write(path: Path) -> Bundle:
    samples = np.ones((5, 4), dtype=np.float32)
    return write_tiny(path, baseline=slow_sum_model(), samples=samples)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return measure_bundle(_write(tmp_path_factory.mktemp("measured") / "tiny.bundle"), SHORT)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return _write(tmp_path / "tiny.bundle")


def _with(bundle: Bundle, profile: Profile, host_id: str = HERE, **changes: Any) -> Bundle:
    content = {**json.loads(profile.model_dump_json()), **changes}
    return extend_bundle(bundle, {profile_file(host_id): json.dumps(content).encode()})


def _with_threads(profile: Profile, threads: int) -> Profile:
    """The same as if it had been measured with another number of threads."""
    changes = {"threads": threads}
    return profile.model_copy(
        update={
            "variants": tuple(entry.model_copy(update=changes) for entry in profile.variants),
            "comparisons": tuple(item.model_copy(update=changes) for item in profile.comparisons),
        }
    )


def _with_version(profile: Profile, version: str) -> Profile:
    changes = {"runtime_version": version}
    return profile.model_copy(
        update={"variants": tuple(entry.model_copy(update=changes) for entry in profile.variants)}
    )


def _names(profile: Profile) -> list[str]:
    return [entry.name for entry in profile.variants]


def test_profile_is_kept_by_host_and_leaves_foreign_ones_alone(tmp_path: Path, profile: Profile) -> None:
    host = profile.host.model_copy(update={"id": ELSEWHERE})
    only_foreign = _with(
        write_tiny(tmp_path / "tiny.bundle"), profile, ELSEWHERE, host=host.model_dump(), variants=[], comparisons=[]
    )
    with pytest.raises(BundleError, match=rf"no profile of host {HERE} \(profiles of: {ELSEWHERE}\); run: deploykit"):
        read_profile(only_foreign, HERE)
    written = profile_bundle(only_foreign.path, SHORT)
    assert sorted(recorded_hosts(written)) == sorted([HERE, ELSEWHERE])
    assert written.read(profile_file(ELSEWHERE)) == only_foreign.read(profile_file(ELSEWHERE))
    assert read_profile(written, HERE).host.id == HERE
    assert read_profile(written, ELSEWHERE).host.id == ELSEWHERE


def test_a_profile_under_another_hosts_name_is_refused(bundle: Bundle, profile: Profile) -> None:
    written = _with(bundle, profile, ELSEWHERE)
    with pytest.raises(BundleError, match=f"was taken on host {HERE}, not {ELSEWHERE}; run: deploykit profile"):
        read_profile(written, ELSEWHERE)


def test_a_profile_of_an_older_file_is_stale(bundle: Bundle, profile: Profile) -> None:
    changed = extend_bundle(_with(bundle, profile), {"models/hard.onnx": slow_sum_model(products=2)})
    with pytest.raises(BundleError, match="stale: variant 'hard' has changed since; run: deploykit profile"):
        read_profile(changed, HERE)
    assert read_any(changed, HERE) == profile


def test_figures_of_another_version_of_the_runtime_are_stale(bundle: Bundle, profile: Profile) -> None:
    written = _with(bundle, profile)
    version = profile.variants[0].runtime_version
    assert read_profile(written, HERE) == profile
    assert read_profile(written, HERE, versions={"onnxruntime-cpu": version, "another": "1"}) == profile
    with pytest.raises(
        BundleError, match=rf"hard@onnxruntime-cpu/1 was measured with {version}, and this is onnxruntime 0; run: "
    ) as error:
        read_profile(written, HERE, versions={"onnxruntime-cpu": "onnxruntime 0"})
    assert str(error.value).endswith(f"run: deploykit profile {bundle.path} --runtime onnxruntime-cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "has version 99; this deploykit reads 2; run: deploykit profile"),
        ({"version": 1, "surprise": 1}, "has version 1; this deploykit reads 2"),
        ({"surprise": 1}, "is not valid: surprise"),
        ({"host": 3}, "is not valid: host"),
    ],
)
def test_a_profile_of_another_kind_is_refused(
    bundle: Bundle, profile: Profile, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        read_profile(_with(bundle, profile, **change), HERE)


@pytest.mark.parametrize("content", [b"", b"[]", b"not json", b"\xff"])
def test_what_is_no_profile_is_refused(bundle: Bundle, content: bytes) -> None:
    written = extend_bundle(bundle, {profile_file(HERE): content})
    with pytest.raises(BundleError, match=r"is not valid: .*run: deploykit profile"):
        read_profile(written, HERE)


def test_what_was_measured_again_replaces_and_the_rest_stays(bundle: Bundle, profile: Profile) -> None:
    written = _with(bundle, profile)
    assert merged_with_earlier(written, profile) == (profile, ())
    two = _with_threads(profile, 2)
    merged, words = merged_with_earlier(written, two)
    assert words == ("earlier figures stay: hard@onnxruntime-cpu/1, float@onnxruntime-cpu/1",)
    assert merged.variants == (*two.variants, *profile.variants)
    assert merged.comparisons == (*two.comparisons, *profile.comparisons)
    only_hard = two.model_copy(update={"variants": two.variants[:1]})
    again, _ = merged_with_earlier(_with(bundle, merged), only_hard)
    assert _names(again) == [
        "hard@onnxruntime-cpu/2", "float@onnxruntime-cpu/2", "hard@onnxruntime-cpu/1", "float@onnxruntime-cpu/1",
    ]  # fmt: skip
    # Comparisons of hard with 2 threads are the new ones, once.
    assert again.comparisons == (*two.comparisons, *profile.comparisons)


def test_what_is_stale_does_not_stay(bundle: Bundle, profile: Profile) -> None:
    changed = extend_bundle(_with(bundle, profile), {"models/hard.onnx": slow_sum_model(products=2)})
    merged, words = merged_with_earlier(changed, _with_threads(profile, 2))
    assert words == (
        "the earlier figures of hard@onnxruntime-cpu/1 are dropped: the file has changed since",
        "earlier figures stay: float@onnxruntime-cpu/1",
    )
    assert _names(merged) == ["hard@onnxruntime-cpu/2", "float@onnxruntime-cpu/2", "float@onnxruntime-cpu/1"]
    assert {item.threads for item in merged.comparisons} == {2}


def test_a_comparison_does_not_outlive_the_file_it_was_made_with(
    tmp_path: Path, bundle: Bundle, profile: Profile
) -> None:
    changed = extend_bundle(_with(bundle, profile), {"models/float.onnx": slow_sum_model(products=2)})
    only_baseline = profile.model_copy(update={"variants": profile.variants[1:], "comparisons": ()})
    merged, words = merged_with_earlier(changed, only_baseline)
    assert _names(merged) == ["float@onnxruntime-cpu/1", "hard@onnxruntime-cpu/1"]
    assert merged.comparisons == ()
    assert words[1:] == tuple(
        f"the earlier comparison of hard@onnxruntime-cpu/1 at batch {item.batch} with float is dropped: the file has "
        "changed since"
        for item in profile.comparisons
    )
    # Measured again and still the same file: the comparisons hold.
    same = _with(_write(tmp_path / "same.bundle"), profile)
    assert merged_with_earlier(same, only_baseline)[0].comparisons == profile.comparisons


def test_figures_of_other_inputs_do_not_stay(bundle: Bundle, profile: Profile) -> None:
    random = profile.settings.model_copy(update={"inputs": "random"})
    earlier = _with_threads(profile, 2).model_copy(update={"settings": random})
    merged, words = merged_with_earlier(_with(bundle, earlier), profile)
    assert merged == profile
    assert words == (
        "the earlier profile of this host is replaced as a whole: it was measured with random, and now with held-out "
        "samples",
    )


def test_what_another_version_of_the_runtime_did_does_not_stay(bundle: Bundle, profile: Profile) -> None:
    old = _with_version(_with_threads(profile, 3), "onnxruntime 0")
    merged, words = merged_with_earlier(_with(bundle, old), profile)
    version = profile.variants[0].runtime_version
    assert words == tuple(
        f"the earlier figures of {variant}@onnxruntime-cpu/3 are dropped: onnxruntime-cpu was onnxruntime 0 and is "
        f"{version}"
        for variant in ("hard", "float")
    )
    assert merged == profile


def test_an_earlier_profile_of_another_version_is_replaced_as_a_whole_and_said_so(
    bundle: Bundle, profile: Profile
) -> None:
    merged, words = merged_with_earlier(_with(bundle, profile, version=1), profile)
    assert merged == profile
    assert len(words) == 1
    assert "is replaced as a whole" in words[0]
    assert "has version 1; this deploykit reads 2" in words[0]


def test_a_call_merges_and_says_so(tmp_path: Path, profile: Profile) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle", samples=np.ones((5, 4), dtype=np.float32))
    earlier = _with_threads(profile, 2)
    _with(bundle, earlier, variants=[earlier.variants[0].model_dump(mode="json")], comparisons=[])
    notes: list[str] = []
    published = profile_bundle(bundle.path, SHORT, note=notes.append)
    assert notes == ["earlier figures stay: hard@onnxruntime-cpu/2"]
    assert _names(read_profile(published, HERE)) == ["hard@onnxruntime-cpu/1", "hard@onnxruntime-cpu/2"]
