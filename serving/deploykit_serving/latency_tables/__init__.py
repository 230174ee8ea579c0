"""Fill latency tables: time stacks of blocks in turns, gated by a canary, and take differences."""

from __future__ import annotations

from deploykit_serving.latency_tables.drift import Drift, still_valid
from deploykit_serving.latency_tables.fusion import Fusion, detect_fusion
from deploykit_serving.latency_tables.meter import Meter, RuntimeMeter, Sample
from deploykit_serving.latency_tables.sampling import Canary, Pace, Sampled, sample_in_turns
from deploykit_serving.latency_tables.skeleton import measure_networks, measure_skeleton
from deploykit_serving.latency_tables.stacks import Stack, measure_blocks

__all__ = [
    "Canary",
    "Drift",
    "Fusion",
    "Meter",
    "Pace",
    "RuntimeMeter",
    "Sample",
    "Sampled",
    "Stack",
    "detect_fusion",
    "measure_blocks",
    "measure_networks",
    "measure_skeleton",
    "sample_in_turns",
    "still_valid",
]
