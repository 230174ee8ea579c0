"""Train a method's soft form on a task: Fabric loop, seeds, checkpoints that survive an interruption."""

from __future__ import annotations

from deploykit_training.run_folder import RunRecord, open_run
from deploykit_training.training import train

__all__ = ["RunRecord", "open_run", "train"]
