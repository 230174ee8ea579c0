"""Which hard twin belongs to which soft form: the list that the tests hold this package to.

Every public function of the package is a key or a value of ``HARD_TWINS`` or has its reason in ``UNPAIRED``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HARD_TWINS: Final[Mapping[str, str]] = {
    "binarize_periodic": "periodic_sign",
    "binary_code_gate": "binary_code",
    "capped_simplex_projection": "hard_top_k_mask",
    "capped_simplex_straight_through": "hard_top_k_mask",
    "entmax15": "hard_one_hot",
    "entmax_bisect": "hard_one_hot",
    "fake_quantize": "symmetric_codes",
    "gumbel_sigmoid": "hard_bit",
    "gumbel_sigmoid_straight_through": "hard_bit",
    "gumbel_softmax": "hard_one_hot",
    "gumbel_softmax_straight_through": "hard_one_hot",
    "gumbel_top_k": "hard_top_k_mask",
    "gumbel_top_k_straight_through": "hard_top_k_mask",
    "hard_concrete": "hard_concrete_gate",
    "log_sinkhorn": "mutual_best",
    "path_products": "tree_leaf",
    "round_straight_through": "torch.round",
    "sigmoid_tree": "tree_leaf",
    "sign_triangle": "hard_sign",
    "smooth_step": "hard_bit",
    "soft_ranks": "hard_ranks",
    "soft_sort": "hard_sort",
    "softmax_permutation": "hard_permutation",
    "sparsemax": "hard_one_hot",
    "straight_through_bits": "node_bits",
    "swap_probability": "hard_bit",
    "tempered_sigmoid": "hard_bit",
    "tempered_softmax": "hard_one_hot",
    "trainable_gate": "step_gate",
}
"""Soft function to hard function; a name with a dot is outside the package."""

UNPAIRED: Final[Mapping[str, str]] = {
    "GraphConvolution": "a layer without a choice, the same in both forms",
    "aggregate": "exact sums, the same in both forms",
    "clipped_straight_through": "its hard twin is its argument `hard`",
    "cosine_schedule": "a schedule",
    "dequantize": "what symmetric_codes stand for",
    "geometric_schedule": "a schedule",
    "gumbel_noise": "noise, the argument of a soft form",
    "hard_choice": "hard_one_hot as an index",
    "hard_concrete_open": "a penalty",
    "hard_top_k": "hard_top_k_mask as indices",
    "linear_schedule": "a schedule",
    "load_balance": "a penalty",
    "log_sum_exp": "a part of log_sinkhorn",
    "logistic_noise": "noise, the argument of a soft form",
    "marginal_error": "a check of convergence",
    "mark_decision": "a mark in a hard form",
    "multiply_accumulates": "a count",
    "mutual_margin": "a margin of a hard form",
    "network_layers": "the wiring of both forms",
    "network_sort": "a second hard twin of soft_sort, swap by swap",
    "node_entropy": "a penalty",
    "pack_int4": "storage of a hard form",
    "rounding_margin": "a margin of a hard form",
    "stepped_schedule": "a schedule",
    "straight_through": "its hard twin is its argument `hard`",
    "sum_over_adjacency": "exact sums, the same in both forms",
    "sum_over_edges": "exact sums, the same in both forms",
    "support_mask": "a second way to harden sparse probabilities: it keeps which, not how much",
    "symmetric_scales": "the steps of both forms",
    "tree_depth": "a count",
    "unpack_int4": "storage of a hard form",
    "with_dustbins": "the arguments of log_sinkhorn",
}
"""Function to the reason why it is no half of a pair."""
