"""To register is to be tested: every registered target and runtime passes its contract."""

from __future__ import annotations

from typing import Any

from deploykit import installed
from deploykit.testing import RuntimeContract, TargetContract

# Beside small models, what a method really writes.
_METHOD = "plain.passthrough"
# Builders measure kernels and note times: the bytes of an engine are others every time.
_NOT_DETERMINISTIC = {"tensorrt"}


def _contract_of(base: type, kind: str, name: str, **settings: Any) -> None:
    title = f"Test_{kind}_{name.replace('-', '_')}"
    globals()[title] = type(title, (base,), {"name": name, "method": _METHOD, "__module__": __name__, **settings})


for _name in installed().targets:
    _contract_of(TargetContract, "target", _name, deterministic=_name not in _NOT_DETERMINISTIC)
for _name in installed().runtimes:
    _contract_of(RuntimeContract, "runtime", _name)


def test_the_shipped_targets_and_runtimes_are_registered() -> None:
    assert "tensorrt" in installed().targets
    shipped = {"onnxruntime-cpu", "onnxruntime-cuda", "openvino-cpu", "tensorrt", "tensorrt-rtx", "torch"}
    assert shipped <= set(installed().runtimes)
