"""Soft-to-hard maths that several families share; torch only."""

from __future__ import annotations

from deploykit.decision_marks import mark_decision
from deploykit_relaxations.gates import step_gate, trainable_gate
from deploykit_relaxations.multiply_accumulates import multiply_accumulates
from deploykit_relaxations.sign import (
    binarize_periodic,
    hard_sign,
    periodic_sign,
    round_straight_through,
    sign_triangle,
)
from deploykit_relaxations.trees import (
    geometric_schedule,
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
    "binarize_periodic",
    "geometric_schedule",
    "hard_sign",
    "load_balance",
    "mark_decision",
    "multiply_accumulates",
    "node_bits",
    "node_entropy",
    "path_products",
    "periodic_sign",
    "round_straight_through",
    "sigmoid_tree",
    "sign_triangle",
    "step_gate",
    "straight_through_bits",
    "trainable_gate",
    "tree_depth",
    "tree_leaf",
]
