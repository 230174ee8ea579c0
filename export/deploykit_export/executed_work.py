"""Proof that unselected branches did not run: work counted from the runtime's own record of what it executed.

ONNX Runtime's profile notes every kernel with the shapes it ran on, inside ``If`` and ``Loop`` bodies too, so rows a
group did not get and branches that were not taken count nothing. Time is noisy; this count is not.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import onnxruntime
from numpy.typing import NDArray

from deploykit.decision_names import VALUE_PREFIX
from deploykit.signature import Arrays

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExecutedWork:
    """What one run executed.

    Attributes:
        macs: multiply-accumulate operations in convolutions and matrix products, for the whole batch.
        kernels: how often each operator ran.
        uncounted: those among them that multiply matrices, too, and whose work the shapes do not tell.
    """

    macs: int
    kernels: Mapping[str, int]
    uncounted: tuple[str, ...] = ()


def executed_work(data: bytes, inputs: Arrays) -> ExecutedWork:
    """Run a model once under ONNX Runtime's profiler and count what it did."""
    with tempfile.TemporaryDirectory(prefix="deploykit-profile-") as folder:
        options = _options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text())
    kernels: dict[str, int] = {}
    macs = 0
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        arguments = event["args"]
        operator = arguments["op_name"]
        kernels[operator] = kernels.get(operator, 0) + 1
        if (count := _MACS.get(operator)) is not None:
            macs += count(_shapes(arguments["input_type_shape"]), _shapes(arguments["output_type_shape"])[0])
    return ExecutedWork(macs, dict(sorted(kernels.items())), tuple(sorted(_UNCOUNTED & set(kernels))))


def marked_decisions(data: bytes, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Run a file and return the decisions marked in it by name; the file itself is not changed.

    The marked values are asked for as further outputs of a copy, so they are what the written graph computes.
    """
    model = onnx.load_from_string(data)
    names = [out for node in model.graph.node for out in node.output if out.startswith(VALUE_PREFIX)]
    if not names:
        return {}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
    values = session.run(names, dict(inputs))
    return {name.removeprefix(VALUE_PREFIX): value for name, value in zip(names, values, strict=True)}


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # The profile leaves out weights that a kernel has repacked for itself, and their shapes are what is counted.
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Without layout changes the operators keep the shapes of the file, which is what is counted.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return options


def _shapes(entries: list[dict[str, list[int]]]) -> list[Shape]:
    return [tuple(next(iter(entry.values()))) if entry else () for entry in entries]


def _convolution(weight: int) -> Callable[[list[Shape], Shape], int]:
    return lambda inputs, output: math.prod(output) * math.prod(inputs[weight][1:])


def _transposed(inputs: list[Shape], output: Shape) -> int:
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _product(inputs: list[Shape], output: Shape) -> int:
    return math.prod(output) * inputs[0][-1]


def _gemm(inputs: list[Shape], output: Shape) -> int:
    # A may be transposed; its elements over the rows of the result give K either way.
    return 0 if not math.prod(output) else output[1] * math.prod(inputs[0])


_MACS: Final[dict[str, Callable[[list[Shape], Shape], int]]] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "FusedMatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "MatMulNBits": _product,
    "Gemm": _gemm,
    "QGemm": _gemm,
}

_UNCOUNTED: Final = {
    "Attention", "ConvTransposeWithDynamicPads", "DeformConv", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "Einsum",
    "FusedGemm", "GRU", "GroupQueryAttention", "LSTM", "LinearClassifier", "LinearRegressor",
    "MatMulBnb4", "MatMulFpQ4", "MatMulIntegerToFloat", "MoE", "MultiHeadAttention", "NhwcFusedConv", "QAttention",
    "QLinearConvTranspose", "QMoE", "RNN", "SVMClassifier", "SVMRegressor", "SparseAttention", "SparseToDenseMatMul",
}  # fmt: skip
