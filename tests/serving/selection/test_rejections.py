"""Every reason for which a candidate must not be chosen, on bundles on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from deploykit.bundle_writer import extend_bundle
from deploykit.errors import BudgetError, ConfigError, ServingError
from deploykit_export.proof_report import Proof
from deploykit_serving.profiling.schema import Load, profile_file
from deploykit_serving.selection.choosing import Selection
from deploykit_serving.selection.installed import Installed
from deploykit_serving.selection.request import Budget, Request
from deploykit_serving.selection.selection import select
from tests.serving.selection.made_catalogues import HERE, Made, another_host, have_all, point, write_measured

EASY = Request(Budget(0.5, 100.0))


def ask(folder: Path, request: Request = EASY) -> Selection:
    return select(folder, request, installed=have_all)


def reason(folder: Path, request: Request = EASY) -> str:
    """What is said of the only candidate of the hard form, which must not have been chosen."""
    selection = ask(folder, request)
    assert selection.chosen is None
    (verdict,) = [item for item in selection.verdicts if "/float@" not in item.candidate.name]
    assert len(verdict.faults) + len(verdict.misses) == 1
    return verdict.faults[0] if verdict.faults else verdict.misses[0].text


def test_a_candidate_without_fault_is_chosen(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    selection = ask(tmp_path)
    assert selection.chosen is not None
    assert selection.chosen.candidate.name == "a/v@engine/1"
    assert selection.chosen.measured_ms == 1.0
    assert selection.chosen.latency_ms == pytest.approx(1.1)
    (baseline,) = [item for item in selection.verdicts if not item.meets]
    assert baseline.candidate.name == "a/float@engine/1"
    assert baseline.faults == ("the float model that the hard form replaces; verify proves hard forms only",)


def test_the_bound_must_meet_the_budget_not_the_percentile(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0, over=1.25)])])
    assert ask(tmp_path, Request(Budget(0.99, 2.5))).chosen is not None
    selection = ask(tmp_path, Request(Budget(0.99, 2.4)))
    words = r"^nothing meets the budget; the nearest is a/v@engine/1: p99 2\.5 ms \(bound\), 0\.1 ms over 2\.4 ms$"
    with pytest.raises(BudgetError, match=words) as error:
        selection.require()
    assert error.value.exit_code == 4


def test_the_nearest_names_every_constraint_and_the_amount(tmp_path: Path) -> None:
    write_measured(tmp_path, "near", [Made("v", [point(1.0)], metric=0.95, peak_mib=300)], size=2000)
    write_measured(tmp_path, "far", [Made("v", [point(9.0)], metric=0.99)])
    request = Request(Budget(0.5, 1.0), floors={"accuracy": 0.97}, max_memory=3e8, max_size=1900)
    with pytest.raises(BudgetError) as error:
        ask(tmp_path, request).require()
    assert str(error.value) == (
        "nothing meets the budget; the nearest is near/v@engine/1: p50 1.1 ms (bound), 0.1 ms over 1 ms; "
        "accuracy 0.95, 0.02 below 0.97; memory 314.6 MB, 14.57 MB over 300 MB; size 2 kB, 100 B over 1.9 kB"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"failure": "killed by SIGSEGV\nin libfoo"}, "the measurement failed: killed by SIGSEGV"),
        ({"points": [point(1.0, invalid="the generator fell behind")]},
         "the measurement at batch 1, closed:1 is invalid: the generator fell behind"),
        ({"points": [point(1.0, stable=False, spread=0.3)]}, "not stable at batch 1, closed:1: windows 30% apart; "),
        ({"points": [point(1.0, samples=5)]}, "p50 at batch 1, closed:1 rests on 5 calls and takes 7: "),
        ({"points": [point(1.0, percentiles=())]}, "the profile holds no p50 at batch 1, closed:1 (there: none): "),
        ({"points": [point(1.0, batch=4), point(1.0, batch=2)]}, "batch 1 was not measured (there: 2, 4)"),
        ({"points": []}, "load closed:1 was not measured (at this batch: nothing)"),
        ({"points": [point(1.0, load=Load(streams=4))]}, "load closed:1 was not measured (at this batch: closed:4)"),
        ({"hop": None}, "verify did not compare its answers in engine: deploykit verify "),
        ({"hop": {"status": "not run", "reason": "no such operator\nat 0x1"}},
         "verify could not run it in engine: no such operator"),
        ({"faster": 0.8}, "not measured to be faster than the float model: 0.80 times its speed at batch 1 (95 % "),
        ({"faster": 1.01}, "not measured to be faster than the float model: 1.01 times its speed at batch 1 (95 % "),
        ({"faster": 2.0, "p": 0.04}, "not measured to be faster than the float model: 2.00 times its speed at batch 1 "
         "(95 % interval 1.96 to 2.04, p = 0.04, wanted below 0.01); "),
        ({"hop": {"compared_with": ""}}, "verify ran it in engine and had nothing to compare its answers with: "),
        ({"faster": None}, "not compared with the float model in engine with 1 thread(s): deploykit profile "),
        ({"version": "engine 0.9"}, "stale: measured with engine 0.9, installed is engine 1.0: deploykit profile "),
    ],
)  # fmt: skip
def test_reasons_that_lie_in_what_was_measured(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    fields = {"points": [point(1.0)]} | changes
    write_measured(tmp_path, "a", [Made("v", **fields)])
    assert reason(tmp_path).startswith(words)
    with pytest.raises(ServingError, match=r"^no variant of the catalogue can be judged:\n  a/"):
        ask(tmp_path).require()


def test_a_percentile_that_the_sample_does_not_support_names_the_count(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0, samples=458)])])
    said = reason(tmp_path, Request(Budget(0.99, 100.0)))
    assert said.startswith("p99 at batch 1, closed:1 rests on 458 calls and takes 459: deploykit profile ")
    assert reason(tmp_path, Request(Budget(0.999, 100.0))).startswith(
        "the profile holds no p99.9 at batch 1, closed:1 (there: p50, p90, p99): deploykit profile "
    )


def test_an_unknown_metric_meets_no_floor_but_may_be_chosen_without_one(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)], metric=None)])
    assert ask(tmp_path).chosen is not None
    said = reason(tmp_path, Request(EASY.budget, floors={"accuracy": 0.1}))
    assert said == "its metric is not known: verify it with its task installed"
    write_measured(tmp_path, "b", [Made("v", [point(50.0)], metric=0.1)])
    chosen = ask(tmp_path).chosen
    assert chosen is not None
    assert chosen.candidate.name == "b/v@engine/1"


@pytest.mark.parametrize(("written", "said"), [("Infinity", "inf"), ("-Infinity", "-inf"), ("NaN", "nan")])
def test_a_metric_that_is_no_finite_number_is_never_chosen(tmp_path: Path, written: str, said: str) -> None:
    bundle = write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    proofs = bundle.read("proofs/verify.json")
    assert proofs.count(b'"metric":0.9') == 1
    extend_bundle(bundle, {"proofs/verify.json": proofs.replace(b'"metric":0.9', f'"metric":{written}'.encode())})
    assert reason(tmp_path).startswith(f"its metric in engine is {said}, no finite number: deploykit verify ")


def test_memory_that_was_not_measured_meets_no_limit(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)], peak_mib=None)])
    assert ask(tmp_path).chosen is not None
    assert "its memory was not measured" in reason(tmp_path, Request(EASY.budget, max_memory=1e12))


def test_slower_variants_are_taken_by_those_who_ask(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)], faster=0.5)])
    assert ask(tmp_path, Request(EASY.budget, allow_slower=True)).chosen is not None
    write_measured(tmp_path, "a", [Made("v", [point(1.0)], faster=None)], baseline=False)
    assert ask(tmp_path).chosen is not None


def test_the_guard_looks_at_the_nearest_batch_that_is_not_larger(tmp_path: Path) -> None:
    points = [point(1.0), point(8.0, batch=16)]
    write_measured(tmp_path, "a", [Made("v", points, faster=0.5, compared_batch=64)])
    assert ask(tmp_path, Request(EASY.budget, batch=16)).chosen is None
    bundle = write_measured(
        tmp_path, "a", [Made("v", points), Made("v", points, faster=0.5, compared_batch=64, threads=2)]
    )
    selection = ask(tmp_path, Request(EASY.budget, batch=16))
    assert [item.candidate.name for item in selection.verdicts if item.meets] == ["a/v@engine/1"]
    assert bundle.path.exists()


def test_of_open_loops_a_faster_one_counts_too(tmp_path: Path) -> None:
    points = [point(1.0), *(point(ms, load=Load(kind="open", rate=rate)) for ms, rate in ((2.0, 50.0), (3.0, 90.0)))]
    write_measured(tmp_path, "a", [Made("v", points)])
    for rate, ms in ((10.0, 2.0), (50.0, 2.0), (51.0, 3.0), (90.0, 3.0)):
        chosen = ask(tmp_path, Request(EASY.budget, load=Load(kind="open", rate=rate))).chosen
        assert chosen is not None
        assert chosen.measured_ms == ms
    assert reason(tmp_path, Request(EASY.budget, load=Load(kind="open", rate=91.0))) == (
        "load open:91 was not measured (at this batch: closed:1, open:50, open:90)"
    )
    said = reason(tmp_path, Request(EASY.budget, load=Load(through="http")))
    assert said.startswith("load http:closed:1 was not measured")


def test_failed_proofs_reject_the_bundle_unless_accepted(tmp_path: Path) -> None:
    failed = Proof(name="parity v", status="failed", detail="off by 3")
    bundle = write_measured(tmp_path, "a", [Made("v", [point(1.0)])], proofs=[failed])
    assert reason(tmp_path).startswith("proof 'parity v' failed: off by 3; mend it, or accept it: deploykit verify ")
    other = ({"proof": "http", "reason": "known", "when": "2026-01-01T00:00:00Z"},)
    extend_bundle(bundle, {}, {"accepted": other})
    assert ask(tmp_path).chosen is None
    extend_bundle(bundle, {}, {"accepted": ({**other[0], "proof": "parity v"},)})
    assert ask(tmp_path).chosen is not None


@pytest.mark.parametrize(("runtime", "parity"), [("engine", "parity engine v"), ("onnxruntime-cpu", "parity v")])
def test_a_hop_proves_nothing_without_its_proof_of_parity(tmp_path: Path, runtime: str, parity: str) -> None:
    made = [Made("v", [point(1.0)], runtime=runtime)]
    not_run = Proof(name=parity, status="not run", detail="there is no hard form to compare with")
    write_measured(tmp_path, "a", made, proofs=[not_run])
    assert reason(tmp_path).startswith(f"its answers in {runtime} are not proven equal, '{parity}' did not pass: ")
    failed = Proof(name=parity, status="failed", detail="off by 3")
    accepted = ({"proof": parity, "reason": "known", "when": "2026-01-01T00:00:00Z"},)
    write_measured(tmp_path, "a", made, proofs=[failed], accepted=accepted)
    assert ask(tmp_path).chosen is not None


def test_what_equals_something_unproven_is_not_proven(tmp_path: Path) -> None:
    made = [Made("v", [point(1.0)], hop={"compared_with": "onnxruntime-cpu v"}),
            Made("v", [point(1.0)], runtime="onnxruntime-cpu")]  # fmt: skip
    not_run = Proof(name="parity v", status="not run", detail="there is no hard form to compare with")
    write_measured(tmp_path, "a", made, proofs=[not_run])
    hard = [item for item in ask(tmp_path).verdicts if "/v@" in item.candidate.name]
    said = "its answers in onnxruntime-cpu are not proven equal, 'parity v' did not pass: "
    assert [item.faults[0].startswith(said) for item in hard] == [True, True]
    write_measured(tmp_path, "a", made)
    assert ask(tmp_path).chosen is not None


def test_memory_at_a_larger_batch_than_was_measured(tmp_path: Path) -> None:
    request = Request(EASY.budget, batch=8, max_memory=1e12)
    write_measured(tmp_path, "a", [Made("v", [point(1.0, batch=8)])])
    assert reason(tmp_path, request).startswith("its memory was measured at batch 1 and may be more at batch 8; ")
    write_measured(tmp_path, "a", [Made("v", [point(1.0, batch=8)], memory_batch=8)])
    assert ask(tmp_path, request).chosen is not None


def test_bundles_of_different_metrics_are_not_compared(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    write_measured(tmp_path, "b", [Made("v", [point(1.0)], metric=31.0)], metric_name="psnr")
    with pytest.raises(ConfigError, match=r"(?s)different names cannot be compared; .*accuracy: a/.*psnr: b/"):
        ask(tmp_path)
    assert ask(tmp_path, Request(EASY.budget, floors={"psnr": 20.0})).require().candidate.name == "b/v@engine/1"


def test_never_verified_and_proofs_of_something_else(tmp_path: Path) -> None:
    bundle = write_measured(tmp_path, "a", [Made("v", [point(1.0)])], verified=False)
    assert reason(tmp_path) == f"never verified: deploykit verify {bundle.path}"
    bundle = write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    changed = extend_bundle(bundle, {}, {"promise": {"tolerance": {"absolute": 1.0}}})
    assert reason(tmp_path).startswith("its proofs are stale, the manifest's promise, ")
    extend_bundle(changed, {"proofs/verify.json": b'{"hops": []}'})
    assert reason(tmp_path).startswith("proofs/verify.json cannot be read (")


def test_a_runtime_that_is_not_here(tmp_path: Path) -> None:
    bundle = write_measured(tmp_path, "a", [Made("v", [point(1.0)])])
    other = another_host()
    content = bundle.read(profile_file(HERE.id)).replace(HERE.id.encode(), other.id.encode())
    extend_bundle(bundle, {profile_file(other.id): content})

    def nothing(names: Iterable[str]) -> dict[str, Installed]:
        return dict.fromkeys(names, Installed(missing="no GPU"))

    def unserved(names: Iterable[str]) -> dict[str, Installed]:
        return dict.fromkeys(names, Installed(unserved="it trains"))

    for host in ("", other.id):
        (verdict,) = [
            item
            for item in select(tmp_path, Request(EASY.budget, host=host), installed=unserved).verdicts
            if "/v@" in item.candidate.name
        ]
        assert verdict.faults == ("engine is never served: it trains",)

    selection = select(tmp_path, EASY, installed=nothing)
    assert selection.chosen is None
    (verdict,) = [item for item in selection.verdicts if "/v@" in item.candidate.name]
    assert verdict.faults == ("engine cannot run here: no GPU",)
    assert select(tmp_path, EASY, installed=lambda names: {}).chosen is None


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    made = [Made("v", [point(ms)], runtime=runtime, threads=threads) for runtime, threads, ms in
            (("engine", 1, 1.0), ("engine", 2, 0.5), ("other", 1, 0.1))]  # fmt: skip
    write_measured(tmp_path, "a", made)

    def chosen(**fields: Any) -> str:
        return ask(tmp_path, Request(EASY.budget, **fields)).require().candidate.name

    assert chosen() == "a/v@other/1"
    assert chosen(runtimes=("engine",)) == "a/v@engine/2"
    assert chosen(runtimes=("engine",), threads=(1,)) == "a/v@engine/1"
    rejected = ask(tmp_path, Request(EASY.budget, runtimes=("engine",), threads=(1,))).verdicts
    assert {item.faults for item in rejected if "/v@" in item.candidate.name and item.faults} == {
        ("only engine was asked for",), ("only 1 thread(s) were asked for",),
    }  # fmt: skip


def test_a_profile_that_speaks_of_a_candidate_twice(tmp_path: Path) -> None:
    write_measured(tmp_path, "a", [Made("v", [point(1.0)]), Made("v", [point(0.5)])])
    selection = ask(tmp_path)
    assert selection.chosen is None
    faults = [item.faults[0] for item in selection.verdicts if "/v@" in item.candidate.name]
    assert len(faults) == 2
    assert faults[0].startswith("the profile speaks of it more than once: deploykit profile ")
