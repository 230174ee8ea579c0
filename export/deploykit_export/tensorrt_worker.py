"""The process that builds a TensorRT engine; see :mod:`deploykit_export.tensorrt_engine`."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    """Build the engine the job file describes and write the report beside it."""
    job = json.loads(path.read_text())
    try:
        report = _build(job)
    except Exception as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    (path.parent / "report.json").write_text(json.dumps(report))


def _build(job: Mapping[str, Any]) -> dict[str, Any]:
    trt = importlib.import_module(job["builder"])
    started = time.perf_counter()
    logger = _listener(trt)
    builder = trt.Builder(logger)
    # TensorRT 10 types weakly unless told otherwise; from 11 on, and in RTX, there is nothing else and no flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(Path(job["model"]).read_bytes()):
        return {"error": _refusals(parser)}
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    target = "this GPU"
    if hasattr(config, "set_compute_capability"):
        target = job["target"]
        known = {name for name in dir(trt.ComputeCapability) if name.startswith("SM")}
        if target not in known:
            return {"error": f"{job['builder']} {trt.__version__} knows no target {target!r}; it has {sorted(known)}"}
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
    if job["profile"]:
        profile = builder.create_optimization_profile()
        for name, (low, usual, high) in job["profile"].items():
            profile.set_shape(name, low, usual, high)
        config.add_optimization_profile(profile)
    timing = Path(job["timing_cache"])
    # TensorRT-RTX measures no kernels when it builds: its timing cache does nothing.
    measures = not hasattr(config, "set_compute_capability")
    if measures:
        config.set_timing_cache(config.create_timing_cache(timing.read_bytes()), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return {"error": f"the network was parsed and could not be built for {target}: {' '.join(logger.errors)}"}
    Path(job["engine"]).write_bytes(bytes(plan))
    if measures:
        timing.write_bytes(bytes(config.get_timing_cache().serialize()))
    return {
        "version": trt.__version__,
        "target": target,
        "layers": network.num_layers,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _listener(trt: Any) -> Any:
    class Listener(trt.ILogger):  # type: ignore[misc]
        """Keeps what the builder complains of, for the error message."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip())

    return Listener()


def _refusals(parser: Any) -> str:
    faults = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        operator = error.node_operator() if hasattr(error, "node_operator") else ""
        faults.append(f"{operator or 'node'} {error.node_name()!r}: {error.desc().strip()}")
    return "operators are refused: " + "; ".join(dict.fromkeys(faults))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
