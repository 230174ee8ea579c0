"""A bundle from an ONNX file made elsewhere: nothing to harden, but proven, measured and served all the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from deploykit.bundle import SUFFIX, Bundle
from deploykit.bundle_writer import write_bundle
from deploykit.errors import ExportError
from deploykit.hard_form import FLOAT32
from deploykit.manifest import PromiseEntry, ToleranceEntry
from deploykit.signature import BATCH, Arrays, Signature, TensorSpec
from deploykit_export.graph_facts import walk_nodes
from deploykit_export.heldout import HELDOUT, pack
from deploykit_export.toolchain import toolchain

_SAMPLES: Final = 4


def import_onnx(
    data: bytes,
    path: Path,
    *,
    signature: Signature | None = None,
    decoder: str = "",
    decoder_config: Mapping[str, Any] | None = None,
    samples: Arrays | None = None,
    facts: Mapping[str, str] | None = None,
) -> Bundle:
    """Publish a bundle around an ONNX model.

    Args:
        data: the model; weights must be inside it, not in files beside it.
        path: the bundle's folder, ending in ``.bundle``.
        signature: read off the model by default, then without ranges. Its tensors are the model's in the same order;
            where it calls them otherwise, the tensors in the bundle's file are renamed.
        decoder: a registered decoder for its outputs.
        samples: inputs by name to record answers for; random ones within the signature's ranges by default, which
            needs sizes that are fixed but for the batch.

    Raises:
        ExportError: ONNX's checker or ONNX Runtime refuses the model, or samples are needed.
        SignatureError: the samples do not fit.
    """
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ExportError(f"not a valid ONNX model: {str(error).strip().splitlines()[0][:300]}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError("the model keeps weights in other files; save it as one file (onnx.save with all in one)")
    found = signature or signature_of(model)
    if _rename(model, found):
        data = model.SerializeToString()
    inputs = dict(samples) if samples is not None else _random_inputs(found)
    found.check_inputs(inputs)
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [spec.name for spec in found.outputs]
        outputs = dict(zip(names, session.run(names, inputs), strict=True))
    except Exception as error:
        raise ExportError(f"ONNX Runtime does not run the model: {str(error).strip().splitlines()[0][:300]}") from error
    found.check_outputs(outputs)
    fields = {
        "name": path.name.removesuffix(SUFFIX),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "method": "",
        "signature": found,
        "decoder": decoder,
        "decoder_config": dict(decoder_config or {}),
        "variants": (
            {"name": "onnx", "file": "models/onnx.onnx", "targets": ("onnxruntime",), "purpose": "as it was given"},
        ),
        "promise": PromiseEntry(
            tolerance=ToleranceEntry(absolute=FLOAT32.absolute, relative=FLOAT32.relative)
        ),
        "facts": dict(facts or {}),
        "toolchain": toolchain(),
    }  # fmt: skip
    return write_bundle(
        path, fields, {"models/onnx.onnx": data, HELDOUT: pack({"input": inputs, "output": outputs})}
    )  # fmt: skip


def signature_of(model: onnx.ModelProto) -> Signature:
    """Read names, dtypes and sizes off a graph; a free first dimension is taken for the batch.

    Raises:
        ExportError: a tensor has a type that no signature can hold.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    return Signature(
        inputs=tuple(_spec(value) for value in inputs), outputs=tuple(_spec(value) for value in model.graph.output)
    )


def _rename(model: onnx.ModelProto, signature: Signature) -> bool:
    """Give the model's tensors the signature's names; tell whether any had another one."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    outputs = [*model.graph.output]
    for kind, values, specs in (("inputs", inputs, signature.inputs), ("outputs", outputs, signature.outputs)):
        if len(values) != len(specs):
            raise ExportError(f"the model has {len(values)} {kind}; the signature names {len(specs)}")
    pairs = zip((*inputs, *outputs), (*signature.inputs, *signature.outputs), strict=True)
    names = {value.name: spec.name for value, spec in pairs if value.name != spec.name}
    if not names:
        return False
    for value in (*inputs, *outputs):
        value.name = names.get(value.name, value.name)
    for node in walk_nodes(model.graph):
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    return True


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            shape.append(dim.dim_value)
        elif axis == 0:
            shape.append(BATCH)
        else:
            name = re.sub(r"[^a-z0-9]+", "_", dim.dim_param.lower()).strip("_")
            shape.append(name if re.match(r"[a-z]", name) and name != BATCH else f"{_plain(value.name)}_{axis}")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        return TensorSpec.model_validate({"name": value.name, "dtype": dtype, "shape": shape})
    except (KeyError, ValueError) as error:
        raise ExportError(f"tensor {value.name!r} has a type that cannot be served: {error}") from error


def _plain(name: str) -> str:
    text = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return text if re.match(r"[a-z]", text) else f"axis_{text}".rstrip("_")


def _random_inputs(signature: Signature) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    inputs = {}
    for spec in signature.inputs:
        free = [size for size in spec.shape if isinstance(size, str) and size != BATCH]
        if free:
            raise ExportError(
                f"input {spec.text()} has free sizes {free}: give samples to record answers for (--samples FILE.npz)"
            )
        shape = tuple(_SAMPLES if size == BATCH else int(size) for size in spec.shape)
        low = spec.minimum if spec.minimum is not None else 0.0
        high = spec.maximum if spec.maximum is not None else low + 1.0
        inputs[spec.name] = random.uniform(low, high, shape).astype(spec.dtype)
    return inputs
