"""A mark is the identity, in torch, in gradients' absence and in a traced program."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deploykit.decision_marks import OPERATOR, mark_decision


class Marked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.gather(1, mark_decision(x.argmax(1, keepdim=True), "best")).squeeze(1)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float32])
def test_a_mark_is_the_identity_on_a_new_tensor(dtype: torch.dtype) -> None:
    value = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    marked = mark_decision(value, "bit")
    assert torch.equal(marked, value)
    assert marked.dtype == dtype
    assert marked.untyped_storage().data_ptr() != value.untyped_storage().data_ptr()


def test_a_mark_keeps_its_name_in_a_traced_program() -> None:
    x = torch.randn(3, 4)
    dim = torch.export.Dim("batch")
    program = torch.export.export(Marked(), (x,), dynamic_shapes=({0: dim},))
    (node,) = [node for node in program.graph.nodes if node.target == OPERATOR]
    assert "best" in node.args
    larger = torch.randn(5, 4)
    assert torch.equal(program.module()(larger), larger.amax(1))


def test_the_operator_keeps_torchs_own_rules() -> None:
    torch.library.opcheck(OPERATOR, (torch.tensor([3, 1]), "leaf"))
