"""Networks of somebody's own in ``matched.sinkhorn``, what it refuses, and the decoder ``mutual-matches``."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit import Lowering, make_decoder
from deploykit.errors import ConfigError, ContractError, SignatureError
from deploykit.lifecycle import binding_of, build
from deploykit_export.form_proofs import promise_entry
from deploykit_export.onnx_model import write_onnx
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_matched.matchers import SoftMatcher, matching_loss
from tests.plugins.matched_networks import (
    NAME,
    SIZE,
    MaskedSimilarity,
    Similarity,
    answer,
    drawn_inputs,
    keypoint_matcher,
    method_of,
)

# -- networks of somebody's own --------------------------------------------------------------------------------------


def test_ones_own_network_gets_dustbin_and_transport_on_top() -> None:
    torch.manual_seed(0)
    example = torch.randn(4, 3, SIZE), torch.randn(4, 6, SIZE)
    soft = deploykit.prepare(Similarity(), NAME, example, scale=2.0)
    assert isinstance(soft, SoftMatcher)
    assert binding_of(soft).signature.outputs[0].name == "output"
    torch.autograd.backward(
        matching_loss(soft.log_plan(*example), torch.tensor([[1, -1, 2]] * 4), torch.full((4, 6), -2))
    )
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in soft.parameters())
    hard = deploykit.harden(soft.eval())
    assert hard.promise.weight_bytes is None
    wanted = method_of(soft).oracle(soft, example)["output"]
    np.testing.assert_allclose(answer(hard.module, example), wanted, atol=1e-4)
    assert (wanted > 0).any()
    decoder = make_decoder(hard.decoder, dict(hard.decoder_config))
    assert len(decoder.decode({"output": wanted})["sample"]) == (wanted > 0).sum()


class ScaledSimilarity(Similarity):
    """Somebody's own network with a scale of its own, called as the soft form's is."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.randn(8))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        scores: Tensor = (self.layer(left) * self.log_scale) @ self.layer(right).transpose(1, 2)
        return scores


def test_a_log_scale_of_ones_own_is_no_leftover() -> None:
    torch.manual_seed(0)
    example = torch.randn(4, 3, SIZE), torch.randn(4, 6, SIZE)
    own, other = (deploykit.prepare(network, NAME, example).eval() for network in (ScaledSimilarity(), Similarity()))
    hard = deploykit.harden(own)
    file = write_onnx({"onnx": Lowering(module=hard.module)}, binding_of(own).signature, example)["onnx"]
    assert any("log_scale" in tensor.name for tensor in onnx.load_from_string(file.data).graph.initializer)
    assert measure_shrinkage(file.data, promise_entry(hard.promise)).faults == ()
    assert deploykit.harden(other).promise.absent == ("log_scale",)


def test_a_mask_among_its_inputs_is_heeded() -> None:
    torch.manual_seed(0)
    valid = torch.tensor([[True, True, False], [True, False, True]])
    example = {"left": torch.randn(2, 3, SIZE), "right": torch.randn(2, 4, SIZE), "valid_a": valid}
    soft = deploykit.prepare(MaskedSimilarity(), NAME, example).eval()
    plan = answer(soft, tuple(example.values()))
    assert not plan[~valid.numpy()].any()
    assert (plan[valid.numpy()] > 0).all()
    with pytest.raises(ContractError, match=r"'valid_a' says which points there are.*must be \[2, 3\], got \[2, 4\]"):
        deploykit.prepare(MaskedSimilarity(), NAME, {**example, "valid_a": torch.ones(2, 4, dtype=torch.bool)})


def test_a_network_that_does_not_score_pairs_is_refused() -> None:
    with pytest.raises(
        ContractError, match=r"Linear must return one tensor of scores.*got float32\[2, 3\].*at its end"
    ):
        deploykit.prepare(nn.Linear(4, 3), NAME, torch.randn(2, 4))


def test_tasks_and_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"inputs must be points_a, descriptors_a, .*got image; train on the task"):
        build(deploykit.make_method(NAME), deploykit.make_task("digits"))
    with pytest.raises(ConfigError, match="width 10 must be a multiple of heads 4"):
        build(deploykit.make_method(NAME, {"width": 10}), deploykit.make_task("point-pairs"))
    soft = keypoint_matcher()
    with pytest.raises(ConfigError, match=r"must give targets 'partner_a'.*got \['label'\]"):
        method_of(soft).loss(soft, drawn_inputs(2, 3, 3), {"label": torch.zeros(2)}, deploykit.make_task("digits"))


# -- the decoder --------------------------------------------------------------------------------------------------


def test_a_matching_decodes_to_itself_and_a_higher_threshold_takes_less() -> None:
    matching = np.zeros((2, 3, 4), np.float32)
    matching[0, 1, 2], matching[1, 0, 0], matching[1, 2, 3] = 0.9, 0.5, 0.3
    low, high = (make_decoder("mutual-matches", {"threshold": t}).decode({"assignment": matching}) for t in (0.2, 0.4))
    assert low["sample"].tolist() == [0, 1, 1]
    assert low["index_a"].tolist() == [1, 0, 2]
    assert low["index_b"].tolist() == [2, 0, 3]
    assert low["confidence"].tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert high["index_b"].tolist() == [2, 0]
    at = make_decoder("mutual-matches", {"threshold": 0.3}).decode({"assignment": matching})
    assert at["index_b"].tolist() == [2, 0]  # float32 0.3 is not above float32 0.3


def test_what_is_no_assignment_is_refused_by_the_decoder() -> None:
    decoder = make_decoder("mutual-matches", {"output": "plan"})
    with pytest.raises(SignatureError, match=r"output 'plan' is missing; got \['assignment'\]; the setting 'output'"):
        decoder.decode({"assignment": np.zeros((1, 2, 2), np.float32)})
    with pytest.raises(SignatureError, match=r"'plan' must be \[batch, points_a, points_b\], got \[2, 2\]"):
        decoder.decode({"plan": np.zeros((2, 2), np.float32)})
    with pytest.raises(SignatureError, match="'plan' holds NaN or infinity"):
        decoder.decode({"plan": np.full((1, 2, 2), np.nan, np.float32)})
