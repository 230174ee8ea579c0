"""The promises of the files written from a hard form, as tests."""

from __future__ import annotations

import functools
import importlib.util
import json
from typing import Any, ClassVar

import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.decision_marks import OPERATOR
from deploykit.hard_form import Lowering
from deploykit.outputs import named_outputs
from deploykit.testing.specimen import Specimen, specimen
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.form_proofs import promise_entry
from deploykit_export.gap import fault
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_export.tensorrt_engine import BUILDERS, build_engine


class ExportContract:
    """Subclass it beside :class:`MethodContract` and set ``name``.

    Attributes:
        batches: batch sizes at which every file is compared with the hard form.
        engine_sizes: sizes of free dimensions for engines, by name; from the signature by default.
    """

    name: ClassVar[str]
    task: ClassVar[str] = ""
    config: ClassVar[dict[str, Any]] = {}
    batches: ClassVar[tuple[int, ...]] = (1, 2, 7, 24)
    engine_sizes: ClassVar[dict[str, tuple[int, int, int]]] = {}

    def written(self) -> tuple[Specimen, dict[str, OnnxModel]]:
        """Return the specimen and its files, written once."""
        return _written(self.name, self.task, json.dumps(self.config, sort_keys=True))

    def test_every_file_equals_the_hard_form(self) -> None:
        """ONNX Runtime gives the hard form's outputs within the promised tolerance at every batch size."""
        import onnxruntime

        made, models = self.written()
        for lowering, model in models.items():
            session = onnxruntime.InferenceSession(model.data, providers=["CPUExecutionProvider"])
            for size in self.batches if made.hard.lowerings[lowering].dynamic_batch else (1,):
                few = tuple(tensor[:size] for tensor in made.inputs)
                with torch.no_grad():
                    wanted = named_outputs(made.hard.module(*few), made.task.signature)
                feeds = {spec.name: t.numpy() for spec, t in zip(made.task.signature.inputs, few, strict=True)}
                names = [spec.name for spec in made.task.signature.outputs]
                got = dict(zip(names, session.run(names, feeds), strict=True))
                reference = {output: tensor.numpy() for output, tensor in wanted.items()}
                wrong = fault(got, reference, made.hard.promise.tolerance)
                assert not wrong, f"{self.name}: lowering {lowering!r} at batch {size} is not the hard form: {wrong}"

    def test_files_weigh_and_work_what_was_promised(self) -> None:
        """Bytes, dtypes, leftovers and executed multiply-accumulates are as promised."""
        made, models = self.written()
        promise = made.hard.promise
        entry = promise_entry(promise)
        for lowering, model in models.items():
            faults = measure_shrinkage(model.data, entry).faults
            assert not faults, f"{self.name}: lowering {lowering!r}: {'; '.join(faults)}"
            if promise.macs is None:
                continue
            # Several samples alone: a route that costs more than promised must not hide in a batch's mean.
            rows = [slice(index, index + 1) for index in range(4)]
            if made.hard.lowerings[lowering].dynamic_batch:
                rows += [slice(0, size) for size in self.batches]
            for row in rows:
                work = executed_work(model.data, _feeds(made, row))
                size = row.stop - row.start
                assert not work.uncounted, (
                    f"{self.name}: lowering {lowering!r} runs {', '.join(work.uncounted)}, whose work is not counted; "
                    "write it as Conv, Gemm or MatMul, or promise no multiply-accumulates"
                )
                assert work.macs <= promise.macs * size, (
                    f"{self.name}: lowering {lowering!r} executes {work.macs / size:.0f} multiply-accumulates a sample "
                    f"at batch {size}; promised were at most {promise.macs}"
                )

    def test_marked_decisions_equal_the_hard_forms(self) -> None:
        """Every decision the hard form marks is marked in its file, and is the one the hard form takes."""
        made, models = self.written()
        for lowering, model in models.items():
            entry = made.hard.lowerings[lowering]
            row = slice(0, len(made.inputs[0]) if entry.dynamic_batch else 1)
            few = tuple(tensor[row] for tensor in made.inputs)
            with torch.no_grad(), _Marks() as marks:
                (entry.module if entry.module is not None else made.hard.module)(*few)
            with torch.no_grad():
                wanted = made.method.decisions(made.hard.module, few)
            found = marked_decisions(model.data, _feeds(made, row))
            assert marks.names <= set(found), (
                f"{self.name}: {lowering!r} lost the marks {sorted(marks.names - set(found))}; mark the tensor that "
                "the graph goes on with, no output and no constant"
            )
            for decision, value in found.items():
                assert decision in wanted, f"{self.name}: {lowering!r} marks {decision!r}, decisions() does not know it"
                expected = wanted[decision].value
                assert value.shape == expected.shape, (
                    f"{self.name}: {lowering!r} marks {value.shape} decisions {decision!r}; decisions() has "
                    f"{expected.shape}"
                )
                margin = wanted[decision].margin
                differ = value != expected
                if margin is not None:
                    differ &= margin > 1e-5
                assert not differ.any(), f"{self.name}: {lowering!r} decides {decision!r} otherwise than the hard form"

    def test_tensorrt_builds_an_engine(self) -> None:
        """Every lowering for TensorRT is accepted and built; running it needs a GPU and is not done here."""
        made, models = self.written()
        wanted = [name for name, lowering in made.hard.lowerings.items() if "tensorrt" in lowering.targets]
        if not any(importlib.util.find_spec(builder) for builder in BUILDERS):
            pytest.skip("neither tensorrt nor tensorrt_rtx is installed (extra: tensorrt-rtx)")
        assert wanted, f"{self.name}: no lowering serves tensorrt"
        for lowering in wanted:
            engine = build_engine(models[lowering].data, made.task.signature, sizes=self.engine_sizes)
            assert engine.layers > 0
            assert len(engine.data) > 0


class _Marks(TorchDispatchMode):
    """Notes the names under which a running module marks decisions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is OPERATOR:
            self.names.add(args[1])
        return func(*args, **(kwargs or {}))


def _feeds(made: Specimen, row: slice) -> dict[str, NDArray[Any]]:
    specs = made.task.signature.inputs
    return {spec.name: tensor[row].numpy() for spec, tensor in zip(specs, made.inputs, strict=True)}


@functools.cache
def _written(name: str, task: str, config: str) -> tuple[Specimen, dict[str, OnnxModel]]:
    made = specimen(name, task, json.loads(config))
    lowerings = {
        key: Lowering(
            lowering.module if lowering.module is not None else made.hard.module,
            lowering.translations, lowering.targets, lowering.purpose, lowering.dynamic_batch,
        )
        for key, lowering in made.hard.lowerings.items()
    }  # fmt: skip
    return made, write_onnx(lowerings, made.task.signature, made.inputs)
