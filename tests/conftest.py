"""Seeds and threads for every test; markers by path; no more."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Start every test from the same random state, on one thread."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # libraries under test may draw from the global state
