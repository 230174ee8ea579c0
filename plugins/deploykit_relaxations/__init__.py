"""Soft-to-hard maths that several families share; torch only."""

from __future__ import annotations

from deploykit.decision_marks import mark_decision
from deploykit_relaxations.gates import step_gate, trainable_gate
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
    "geometric_schedule",
    "load_balance",
    "mark_decision",
    "node_bits",
    "node_entropy",
    "path_products",
    "sigmoid_tree",
    "step_gate",
    "straight_through_bits",
    "trainable_gate",
    "tree_depth",
    "tree_leaf",
]
