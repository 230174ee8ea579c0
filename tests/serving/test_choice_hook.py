"""The hook that chooses a variant: order, exceptions and names that are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploykit.choice import Asked, Candidate
from deploykit.hookspecs import hookimpl
from deploykit.registry import installed
from deploykit_serving.loading import load_models
from tests.serving.conftest import WriteAffine
from tests.serving.deployment_files import (
    METRICS,
    MS,
    Reply,
    ask,
    front,
    name_of,
    proven,
    three,
    write_deployment,
)

PATIENCE = 30.0
VARIANTS = [{"name": name, "file": "models/onnx.onnx"} for name in ("slow", "middle", "fast")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, write_affine: WriteAffine) -> Path:
    return proven(write_affine(tmp_path_factory.mktemp("deployed"), variants=VARIANTS))


class Chooses:
    """A plugin."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Sequence[Candidate], Asked]] = []

    @hookimpl
    def deploykit_choose_variant(self, candidates: Sequence[Candidate], asked: Asked) -> Any:
        self.asked.append((candidates, asked))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def with_plugins(bundle: Path, *plugins: Chooses, **parameters: Any) -> list[Reply]:
    """Ask twice where these plugins are installed."""
    registry = installed()
    records = [registry.offer(plugin, f"chooser-{number}") for number, plugin in enumerate(plugins)]
    try:
        app, _ = front(load_models([write_deployment(bundle.parent, *three(bundle))]))
        return [ask(app, **parameters) for _ in range(2)]
    finally:
        for record in records:
            registry.withdraw(record)


def test_the_first_plugin_with_an_opinion_decides(bundle: Path) -> None:
    none, fast, middle = Chooses(None), Chooses(name_of("fast")), Chooses(name_of("middle"))
    replies = with_plugins(bundle, none, fast, middle, latency_budget_ms=60_000)
    assert [reply.variant for reply in replies] == ["fast", "fast"]
    assert (len(none.asked), len(fast.asked), len(middle.asked)) == (2, 2, 0)
    candidates, request = none.asked[0]
    assert [(item.name, item.metric, item.seconds) for item in candidates] == [
        (name_of(name), METRICS[name], MS[name] / 1e3) for name in MS
    ]
    assert (request.batch, request.budget, request.wait, request.queued) == (1, 60.0, 0.0, 0)
    assert 0 <= request.elapsed < PATIENCE


def test_a_plugin_may_take_what_the_policy_would_refuse_but_not_what_the_request_names(bundle: Path) -> None:
    middle = Chooses(name_of("middle"))
    assert [reply.status for reply in with_plugins(bundle, middle, latency_budget_ms=9_000)] == [200, 200]
    assert [reply.variant for reply in with_plugins(bundle, middle, variant="fast")] == ["fast", "fast"]
    assert len(middle.asked) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ValueError("no idea"), "'chooser-0': deploykit_choose_variant raised ValueError: no idea"),
        ("fastest", "chose what is no candidate: 'fastest'; there are: affine/slow@onnxruntime-cpu/1, "),
        (7, "chose what is no candidate: 7; there are: "),
    ],
)
def test_what_a_plugin_does_wrong_is_logged_once_and_is_no_opinion(
    bundle: Path, caplog: pytest.LogCaptureFixture, answer: Any, words: str
) -> None:
    replies = with_plugins(bundle, Chooses(answer), Chooses(name_of("fast")))
    assert [reply.variant for reply in replies] == ["fast", "fast"]
    replies = with_plugins(bundle, Chooses(answer))
    assert [reply.variant for reply in replies] == ["slow", "slow"]
    assert caplog.text.count(words) == 2  # once in each of the two servers
