"""Work counted by hand against work counted by torch, attention included, and against what a file executes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import deploykit
from deploykit_export.bundle_export import export_bundle
from deploykit_export.executed_work import executed_work
from deploykit_relaxations import multiply_accumulates

TOKENS, WIDTH, HIDDEN, CLASSES = 6, 32, 64, 4
ATTENTION = TOKENS * WIDTH * 3 * WIDTH + 2 * TOKENS * TOKENS * WIDTH + TOKENS * WIDTH * WIDTH
FEED_FORWARD = 2 * TOKENS * WIDTH * HIDDEN


class Transformer(nn.Module):
    """One block: attention, then a feed-forward part that methods can work on."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        seen, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        answer: Tensor = self.head(self.feed_forward(tokens + seen).mean(1))
        return answer


def test_attention_counts_as_its_matrix_products() -> None:
    model, tokens = Transformer().eval(), torch.rand(3, TOKENS, WIDTH)
    wanted = ATTENTION + FEED_FORWARD + WIDTH * CLASSES
    enabled = torch.backends.mha.get_fastpath_enabled()
    assert multiply_accumulates(model, (tokens,)) == wanted
    assert torch.backends.mha.get_fastpath_enabled() is enabled


def test_convolutions_and_products_written_in_forward() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False)

        def forward(self, image: Tensor) -> Tensor:
            rows = self.convolution(image).flatten(2)
            product: Tensor = rows @ rows.transpose(1, 2)
            return product

    assert multiply_accumulates(Products(), (torch.rand(2, 4, 5, 5),)) == 25 * 6 * 2 * 9 + 6 * 6 * 25


def test_a_pruned_transformer_executes_no_more_than_it_promises(tmp_path: Path) -> None:
    tokens = torch.rand(4, TOKENS, WIDTH)
    soft = deploykit.prepare(Transformer(), "pruned.gate", tokens, keep=0.5)
    hard = deploykit.harden(soft)
    promised = hard.promise.macs
    assert promised is not None
    assert ATTENTION // 2 < promised < ATTENTION + FEED_FORWARD
    bundle = export_bundle(soft, hard, tmp_path / "block.bundle")
    work = executed_work(bundle.read("models/onnx.onnx"), {"tokens": np.asarray(tokens)})
    assert 0 < work.macs <= len(tokens) * promised
    assert work.macs > len(tokens) * (promised - 1)
