"""Hard form to ONNX: traced here, translated and checked in a process of its own."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import ExportError
from deploykit.hard_form import Lowering
from deploykit.signature import Signature
from deploykit_export.dynamic_shapes import dynamic_shapes, tracing_inputs
from deploykit_export.isolated import run_isolated


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A written model.

    Attributes:
        data: the file's bytes.
        operators: how often each operator stands in the file, subgraphs included.
        optimized_operators: the same after ONNX Runtime's own optimisation, which is what runs on a CPU.
    """

    data: bytes
    operators: Mapping[str, int]
    optimized_operators: Mapping[str, int]


def write_onnx(
    lowerings: Mapping[str, Lowering],
    signature: Signature,
    example: tuple[Tensor, ...],
    *,
    metadata: Mapping[str, str] | None = None,
    timeout: float = 300.0,
) -> dict[str, OnnxModel]:
    """Write each lowering as an ONNX model, with a free batch axis, named tensors and metadata.

    Args:
        lowerings: by name; each must have its module.
        example: inputs to trace with, in the signature's order.
        metadata: goes into every model's ``metadata_props``.
        timeout: seconds for all of them.

    Raises:
        ExportError: torch cannot trace a module, an operator has no translation, the ONNX checker or ONNX Runtime
            refuses the result, the optimised graph holds a kernel known to be a slow fall-back, or the exporting
            process crashed or hung.
    """
    with tempfile.TemporaryDirectory(prefix="deploykit-onnx-") as name:
        folder = Path(name)
        jobs = []
        for lowering_name, lowering in lowerings.items():
            if lowering.module is None:
                raise ExportError(f"lowering {lowering_name!r} has no module")
            program = folder / f"{lowering_name}.pt2"
            _trace(lowering_name, lowering.module, signature, example, lowering.dynamic_batch, program)
            jobs.append(
                {
                    "name": lowering_name,
                    "program": str(program),
                    "translations": lowering.translations,
                    "model": str(folder / f"{lowering_name}.onnx"),
                }
            )
        job = {
            "jobs": jobs,
            "signature": signature.model_dump(mode="json"),
            "metadata": dict(metadata or {}),
        }
        what = f"writing ONNX for {', '.join(repr(item) for item in lowerings)}"
        report = run_isolated("deploykit_export.onnx_worker", job, folder, what=what, timeout=timeout)
        return {
            item["name"]: OnnxModel(
                data=Path(item["model"]).read_bytes(),
                operators=report["models"][item["name"]]["operators"],
                optimized_operators=report["models"][item["name"]]["optimized_operators"],
            )
            for item in jobs
        }


def _trace(
    name: str, module: nn.Module, signature: Signature, example: tuple[Tensor, ...], dynamic_batch: bool, path: Path
) -> None:
    inputs = tracing_inputs(signature, example, dynamic_batch=dynamic_batch)
    shapes: Any = dynamic_shapes(signature, dynamic_batch=dynamic_batch)
    if any(item.kind is item.VAR_POSITIONAL for item in inspect.signature(module.forward).parameters.values()):
        shapes = (shapes,)  # torch.export takes *inputs for one argument that is a tuple
    try:
        # torch warns of its own internals here and prints whole graphs; what matters to the user is raised.
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
            torch.export.save(program, path)
    except Exception as error:
        raise ExportError(_untraceable(name, module, signature, str(error))) from error


def _untraceable(name: str, module: nn.Module, signature: Signature, text: str) -> str:
    free = sorted({str(size) for spec in signature.inputs for size in spec.shape if isinstance(size, str)})
    who = f"lowering {name!r}: torch.export cannot trace {type(module).__name__} with free dimensions {free}"
    lines = text.strip().splitlines()
    if "data-dependent" in text:
        frames = re.findall(r'File "([^"]+)", line (\d+), in \w+\n +(.+)', text)
        place = f" ({Path(frames[-1][0]).name}, line {frames[-1][1]}: {frames[-1][2]})" if frames else ""
        return (
            f"{who}: it decides something in Python by a tensor's value{place}, which a file cannot; use torch.where, "
            f"gathering or torch.cond. torch says: {lines[0][:200]}"
        )
    return f"{who}: {' '.join(lines[:6])[:900]}"
