"""Looking at a model leaves it as it was, and layers are counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deploykit.trial_runs import count_runs, in_eval_mode


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.once, self.never = nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.once(self.twice(self.twice(x)))
        return answer


def test_modes_come_back_each_as_it_was_also_after_a_failure() -> None:
    model = Shared().train()
    model.once.eval()
    with in_eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert model.training
    with pytest.raises(RuntimeError, match="mat1 and mat2"), in_eval_mode(model):
        model(torch.ones(2, 5))
    assert model.training
    assert model.twice.training
    assert not model.once.training


def test_runs_are_counted_without_a_trace() -> None:
    model = Shared().train()
    layers: dict[str, Any] = dict(model.named_children())
    assert count_runs(model, layers, (torch.ones(2, 3),)) == {"twice": 2, "once": 1, "never": 0}
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())
