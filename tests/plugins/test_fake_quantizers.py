"""Few-bit quantisers against brute force, PyTorch's own and ONNX's packing."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deploykit_relaxations import fake_quantizers
from deploykit_relaxations.fake_quantizers import (
    dequantize,
    fake_quantize,
    pack_int4,
    rounding_margin,
    symmetric_codes,
    symmetric_scales,
    unpack_int4,
)

LAYOUTS = [(None, None), (0, None), (2, None), (-2, None), (0, 2), (1, 4), (2, 3), (-1, 1), (1, 100)]


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def group_of(index: tuple[int, ...], axis: int | None, block: int | None) -> tuple[int, ...]:
    """Name the group of elements that share a scale with the one at ``index``."""
    if axis is None:
        return ()
    axis %= len(index)
    if block is None:
        return (index[axis],)
    return (*index[:axis], index[axis] // block, *index[axis + 1 :])


def by_hand(w: Tensor, bits: int, axis: int | None, block: int | None) -> tuple[dict[tuple[int, ...], float], Tensor]:
    """Return scales by group, and codes: the nearest integer of all that there are, the even one of two as near."""
    largest = 2 ** (bits - 1) - 1
    magnitude: dict[tuple[int, ...], float] = {}
    places = list(itertools.product(*map(range, w.shape)))
    for place in places:
        group = group_of(place, axis, block)
        magnitude[group] = max(magnitude.get(group, 0.0), abs(float(w[place])))
    scales = {group: float(np.float32(value) / np.float32(largest)) or 1.0 for group, value in magnitude.items()}
    codes = torch.zeros(w.shape, dtype=torch.int8)
    for place in places:
        steps = float(w[place]) / scales[group_of(place, axis, block)]
        codes[place] = min(range(-largest, largest + 1), key=lambda code: (abs(steps - code), code % 2))
    return scales, codes


def test_examples_in_docstrings() -> None:
    failed, attempted = doctest.testmod(fake_quantizers)
    assert attempted > 15
    assert failed == 0


@pytest.mark.parametrize(("axis", "block"), LAYOUTS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_scales_and_codes_are_those_found_by_hand(bits: int, axis: int | None, block: int | None) -> None:
    w = weights(3, 5, 7)
    w[0, 0] = 0.0
    scales = symmetric_scales(w, bits=bits, axis=axis, block=block)
    wanted, codes = by_hand(w, bits, axis, block)
    assert {group: float(scales[group]) for group in itertools.product(*map(range, scales.shape))} == wanted
    assert torch.equal(symmetric_codes(w, scales, bits=bits, axis=axis, block=block), codes)
    value = fake_quantize(w, bits=bits, axis=axis, block=block)
    for place in itertools.product(*map(range, w.shape)):
        exact = int(codes[place]) * wanted[group_of(place, axis, block)]
        assert float(value[place]) == float(np.float32(exact))


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_fill_their_range_and_no_more(bits: int) -> None:
    w = weights(64, 64)
    codes = symmetric_codes(w, symmetric_scales(w, bits=bits, axis=0), bits=bits, axis=0)
    largest = 2 ** (bits - 1) - 1
    assert int(codes.abs().max()) == largest
    assert bool((codes.abs().amax(1) == largest).all())
    assert torch.equal(symmetric_codes(-w, symmetric_scales(w, bits=bits, axis=0), bits=bits, axis=0), -codes)


@pytest.mark.parametrize(("axis", "block"), LAYOUTS)
def test_the_soft_value_is_the_hard_twins_bit_for_bit_and_no_further_than_half_a_step(
    axis: int | None, block: int | None
) -> None:
    w = weights(4, 6, 8, seed=1)
    scales = symmetric_scales(w, axis=axis, block=block)
    value = fake_quantize(w, axis=axis, block=block)
    codes = symmetric_codes(w, scales, axis=axis, block=block)
    assert torch.equal(value, dequantize(codes, scales, axis=axis, block=block))
    step = dequantize(torch.ones_like(codes), scales, axis=axis, block=block)
    assert bool(((w - value).abs() <= step * 0.50001).all())
    assert torch.equal(fake_quantize(value, scales, axis=axis, block=block), value)


def test_all_zero_blocks_get_scale_one_and_stay_zero() -> None:
    w = torch.zeros(2, 8)
    w[1, 4:] = 1e-45  # a seventh of the smallest float is none
    scales = symmetric_scales(w, axis=1, block=4)
    assert scales.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert not fake_quantize(w, axis=1, block=4).any()


def test_a_short_last_block_is_as_if_padded_with_zeros() -> None:
    w = weights(3, 10)
    padded = torch.nn.functional.pad(w, (0, 2))
    assert torch.equal(symmetric_scales(w, axis=1, block=4), symmetric_scales(padded, axis=1, block=4))
    assert torch.equal(fake_quantize(w, axis=1, block=4), fake_quantize(padded, axis=1, block=4)[:, :10])


def test_the_gradient_is_the_identitys() -> None:
    w = weights(5, 9).requires_grad_()
    arriving = weights(5, 9, seed=2)
    torch.autograd.backward(fake_quantize(w, axis=1, block=4), arriving)
    assert w.grad is not None
    assert torch.equal(w.grad, arriving)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_value_and_gradient_are_pytorchs_where_it_has_the_quantiser(bits: int, axis: int | None) -> None:
    largest = 2 ** (bits - 1) - 1
    # Powers of two: PyTorch multiplies by 1 / scale in float32, which is then exact.
    scales = torch.tensor(0.25) if axis is None else 2.0 ** -torch.arange(1, 1 + (6, 9)[axis])
    ours, theirs = weights(6, 9, seed=3).requires_grad_(), weights(6, 9, seed=3).requires_grad_()
    value = fake_quantize(ours, scales, bits=bits, axis=axis)
    if axis is None:
        reference = torch.fake_quantize_per_tensor_affine(theirs, 0.25, 0, -largest, largest)
    else:
        zeros = torch.zeros(len(scales), dtype=torch.int32)
        reference = torch.fake_quantize_per_channel_affine(theirs, scales, zeros, axis, -largest, largest)
    assert torch.equal(value, reference)
    torch.autograd.backward(value.sum())
    torch.autograd.backward(reference.sum())
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
    if bits < 8:
        assert not ours.grad.all()  # something was cut off, or the test shows nothing of it


def test_margins_are_distances_to_the_nearest_number_with_another_code() -> None:
    w = torch.linspace(-9, 9, 361, dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    margin = rounding_margin(w, one)
    ties = torch.arange(-7, 7) + 0.5  # between -7 and -6, ..., between 6 and 7
    wanted = (w[:, None] - ties).abs().amin(1)
    torch.testing.assert_close(margin, wanted)


def test_weights_that_are_no_numbers_do_not_turn_into_numbers() -> None:
    w = torch.tensor([[float("nan"), 1.0, 2.0, 3.0]])
    assert bool(fake_quantize(w, axis=1, block=2)[0, :2].isnan().all())
    assert bool(fake_quantize(w, axis=1, block=2)[0, 2:].isfinite().all())


@given(st.lists(st.integers(-8, 7), max_size=40))
@settings(max_examples=60, deadline=None)
def test_packed_codes_are_onnxs_and_come_back(codes: list[int]) -> None:
    packed = pack_int4(torch.tensor(codes, dtype=torch.int8))
    assert unpack_int4(packed, (len(codes),)).tolist() == codes
    tensor = onnx.TensorProto(data_type=onnx.TensorProto.INT4, dims=[len(codes)], raw_data=packed.numpy().tobytes())
    assert onnx.numpy_helper.to_array(tensor).astype(int).tolist() == codes
    written = onnx.helper.make_tensor("codes", onnx.TensorProto.INT4, [len(codes)], codes)
    assert [byte & 255 for byte in written.int32_data] == packed.tolist()


def test_shapes_are_packed_row_by_row_and_may_be_odd() -> None:
    codes = torch.randint(-8, 8, (3, 5), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    packed = pack_int4(codes)
    assert packed.shape == (8,)
    assert int(packed[-1]) < 16  # the odd tail is padded with zero
    assert torch.equal(unpack_int4(packed, (3, 5)), codes)
    assert torch.equal(pack_int4(codes.T.contiguous().T), packed)


def test_what_does_not_fit_is_refused() -> None:
    w = torch.ones(4, 4)
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"2 to 8 bits, got {bits}"):
            symmetric_scales(w, bits=bits)
    with pytest.raises(ValueError, match="a block of 4 needs the axis it runs along"):
        symmetric_scales(w, block=4)
    with pytest.raises(ValueError, match="2 dimensions has no axis 2"):
        symmetric_scales(w, axis=2)
    with pytest.raises(ValueError, match="at least 1 element, got 0"):
        symmetric_scales(w, axis=1, block=0)
    with pytest.raises(ValueError, match=r"scales have shape \(3,\); wanted \(4, 2\) for \(4, 4\)"):
        fake_quantize(w, torch.ones(3), axis=1, block=2)
    with pytest.raises(ValueError, match="four bits hold -8 to 7, got codes from -9 to 3"):
        pack_int4(torch.tensor([-9, 3]))
    with pytest.raises(ValueError, match=r"codes of shape \(5,\) take 3 bytes, got 2"):
        unpack_int4(torch.zeros(2, dtype=torch.uint8), (5,))
