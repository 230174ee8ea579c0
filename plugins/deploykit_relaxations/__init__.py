"""Soft-to-hard maths that several families share; torch only.

Every soft form stands in a module beside its hard twin, and its docstring runs:

| soft form                           | hard twin              |
|-------------------------------------|------------------------|
| ``binarize_periodic``               | ``periodic_sign``      |
| ``binary_code_gate``                | ``binary_code``        |
| ``capped_simplex_projection``       | ``hard_top_k_mask``    |
| ``capped_simplex_straight_through`` | ``hard_top_k_mask``    |
| ``entmax15``                        | ``hard_one_hot``       |
| ``entmax_bisect``                   | ``hard_one_hot``       |
| ``fake_quantize``                   | ``symmetric_codes``    |
| ``gumbel_sigmoid``                  | ``hard_bit``           |
| ``gumbel_sigmoid_straight_through`` | ``hard_bit``           |
| ``gumbel_softmax``                  | ``hard_one_hot``       |
| ``gumbel_softmax_straight_through`` | ``hard_one_hot``       |
| ``gumbel_top_k``                    | ``hard_top_k_mask``    |
| ``gumbel_top_k_straight_through``   | ``hard_top_k_mask``    |
| ``hard_concrete``                   | ``hard_concrete_gate`` |
| ``log_sinkhorn``                    | ``mutual_best``        |
| ``path_products``                   | ``tree_leaf``          |
| ``round_straight_through``          | ``torch.round``        |
| ``sigmoid_tree``                    | ``tree_leaf``          |
| ``sign_triangle``                   | ``hard_sign``          |
| ``smooth_step``                     | ``hard_bit``           |
| ``soft_ranks``                      | ``hard_ranks``         |
| ``soft_sort``                       | ``hard_sort``          |
| ``softmax_permutation``             | ``hard_permutation``   |
| ``sparsemax``                       | ``hard_one_hot``       |
| ``straight_through_bits``           | ``node_bits``          |
| ``swap_probability``                | ``hard_bit``           |
| ``tempered_sigmoid``                | ``hard_bit``           |
| ``tempered_softmax``                | ``hard_one_hot``       |
| ``trainable_gate``                  | ``step_gate``          |

The other names are noise, schedules, penalties and counts; :mod:`deploykit_relaxations.pairs` tells which.
"""

from __future__ import annotations

from deploykit.decision_marks import mark_decision
from deploykit_relaxations.binary import (
    gumbel_sigmoid,
    gumbel_sigmoid_straight_through,
    hard_bit,
    logistic_noise,
    tempered_sigmoid,
)
from deploykit_relaxations.categorical import (
    gumbel_noise,
    gumbel_softmax,
    gumbel_softmax_straight_through,
    hard_choice,
    hard_one_hot,
    tempered_softmax,
)
from deploykit_relaxations.fake_quantizers import (
    dequantize,
    fake_quantize,
    pack_int4,
    rounding_margin,
    symmetric_codes,
    symmetric_scales,
    unpack_int4,
)
from deploykit_relaxations.gates import (
    binary_code,
    binary_code_gate,
    hard_concrete,
    hard_concrete_gate,
    hard_concrete_open,
    smooth_step,
    step_gate,
    trainable_gate,
)
from deploykit_relaxations.message_passing import GraphConvolution, aggregate, sum_over_adjacency, sum_over_edges
from deploykit_relaxations.multiply_accumulates import multiply_accumulates
from deploykit_relaxations.pairs import HARD_TWINS, UNPAIRED
from deploykit_relaxations.schedules import cosine_schedule, geometric_schedule, linear_schedule, stepped_schedule
from deploykit_relaxations.sign import (
    binarize_periodic,
    hard_sign,
    periodic_sign,
    round_straight_through,
    sign_triangle,
)
from deploykit_relaxations.sinkhorn import (
    log_sinkhorn,
    log_sum_exp,
    marginal_error,
    mutual_best,
    mutual_margin,
    with_dustbins,
)
from deploykit_relaxations.soft_permutation import hard_permutation, softmax_permutation
from deploykit_relaxations.sorting_networks import (
    hard_ranks,
    hard_sort,
    network_layers,
    network_sort,
    soft_ranks,
    soft_sort,
    swap_probability,
)
from deploykit_relaxations.sparse_probabilities import entmax15, entmax_bisect, sparsemax, support_mask
from deploykit_relaxations.straight_through import clipped_straight_through, straight_through
from deploykit_relaxations.top_k import (
    capped_simplex_projection,
    capped_simplex_straight_through,
    gumbel_top_k,
    gumbel_top_k_straight_through,
    hard_top_k,
    hard_top_k_mask,
)
from deploykit_relaxations.trees import (
    load_balance,
    node_bits,
    node_entropy,
    path_products,
    sigmoid_tree,
    straight_through_bits,
    tree_depth,
    tree_leaf,
)

__all__ = [
    "HARD_TWINS",
    "UNPAIRED",
    "GraphConvolution",
    "aggregate",
    "binarize_periodic",
    "binary_code",
    "binary_code_gate",
    "capped_simplex_projection",
    "capped_simplex_straight_through",
    "clipped_straight_through",
    "cosine_schedule",
    "dequantize",
    "entmax15",
    "entmax_bisect",
    "fake_quantize",
    "geometric_schedule",
    "gumbel_noise",
    "gumbel_sigmoid",
    "gumbel_sigmoid_straight_through",
    "gumbel_softmax",
    "gumbel_softmax_straight_through",
    "gumbel_top_k",
    "gumbel_top_k_straight_through",
    "hard_bit",
    "hard_choice",
    "hard_concrete",
    "hard_concrete_gate",
    "hard_concrete_open",
    "hard_one_hot",
    "hard_permutation",
    "hard_ranks",
    "hard_sign",
    "hard_sort",
    "hard_top_k",
    "hard_top_k_mask",
    "linear_schedule",
    "load_balance",
    "log_sinkhorn",
    "log_sum_exp",
    "logistic_noise",
    "marginal_error",
    "mark_decision",
    "multiply_accumulates",
    "mutual_best",
    "mutual_margin",
    "network_layers",
    "network_sort",
    "node_bits",
    "node_entropy",
    "pack_int4",
    "path_products",
    "periodic_sign",
    "round_straight_through",
    "rounding_margin",
    "sigmoid_tree",
    "sign_triangle",
    "smooth_step",
    "soft_ranks",
    "soft_sort",
    "softmax_permutation",
    "sparsemax",
    "step_gate",
    "stepped_schedule",
    "straight_through",
    "straight_through_bits",
    "sum_over_adjacency",
    "sum_over_edges",
    "support_mask",
    "swap_probability",
    "symmetric_codes",
    "symmetric_scales",
    "tempered_sigmoid",
    "tempered_softmax",
    "trainable_gate",
    "tree_depth",
    "tree_leaf",
    "unpack_int4",
    "with_dustbins",
]
