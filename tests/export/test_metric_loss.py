"""The metric along the hops."""

from __future__ import annotations

import pytest

from deploykit_export.metric_loss import lost_at, prove_metric
from deploykit_export.proof_report import HopResult


def hops(*metrics: float | None) -> list[HopResult]:
    names = ("soft", "hard", "onnx", "http")
    return [HopResult(name=name, metric=metric) for name, metric in zip(names, metrics, strict=False)]


@pytest.mark.parametrize(
    ("metrics", "where"),
    [
        ((0.9, 0.8, 0.79), "hard"),
        ((0.9, 0.9, 0.5, 0.4), "onnx"),
        ((0.9, 0.9, 0.9), ""),
        ((0.8, 0.9, 0.9), ""),
        ((None, 0.9, None, 0.8), "http"),
        ((), ""),
        ((-0.027, -0.027, -0.0270000001), ""),  # sums in another order
        ((30.0, 29.99999, 29.9), "onnx"),
    ],
)
def test_the_hop_that_loses_most_is_named(metrics: tuple[float | None, ...], where: str) -> None:
    assert lost_at(hops(*metrics)) == where


def test_losing_more_than_allowed_fails() -> None:
    proof = prove_metric(hops(0.95, 0.90, 0.93), 0.01)
    assert proof.status == "failed"
    assert proof.detail == "hard has 0.9, soft 0.95: 0.05 lost, 0.01 allowed"


@pytest.mark.parametrize("metrics", [(0.95, 0.945), (0.9, 0.95), (0.9, 0.89)])
def test_losing_as_much_as_allowed_passes(metrics: tuple[float, ...]) -> None:
    assert prove_metric(hops(*metrics), 0.0100001).status == "passed"


def test_without_a_metric_there_is_no_proof() -> None:
    assert prove_metric(hops(None, None), 0.01).status == "not run"
