"""The promises of the files written from a hard form, as tests."""

from __future__ import annotations

import functools
import importlib.util
import json
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from deploykit.hard_form import Lowering
from deploykit.manifest import PromiseEntry, ToleranceEntry
from deploykit.outputs import named_outputs
from deploykit.testing.specimen import Specimen, specimen
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.gap import within
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
                if not within(got, reference, made.hard.promise.tolerance):
                    for output, array in got.items():
                        tolerance = made.hard.promise.tolerance
                        np.testing.assert_allclose(
                            array, reference[output], rtol=tolerance.relative, atol=tolerance.absolute,
                            err_msg=f"{self.name}: lowering {lowering!r} at batch {size}",
                        )  # fmt: skip
                    raise AssertionError(f"{self.name}: lowering {lowering!r} at batch {size} is not equal bit for bit")

    def test_files_weigh_and_work_what_was_promised(self) -> None:
        """Bytes, dtypes, leftovers and executed multiply-accumulates are as promised."""
        made, models = self.written()
        promise = made.hard.promise
        entry = PromiseEntry(
            tolerance=ToleranceEntry(absolute=promise.tolerance.absolute, relative=promise.tolerance.relative),
            weight_bytes=promise.weight_bytes, weight_dtypes=promise.weight_dtypes, absent=promise.absent,
            small_initializer=promise.small_initializer, forbidden_operators=promise.forbidden_operators,
        )  # fmt: skip
        for lowering, model in models.items():
            faults = measure_shrinkage(model.data, entry).faults
            assert not faults, f"{self.name}: lowering {lowering!r}: {'; '.join(faults)}"
            if promise.macs is None:
                continue
            for size in self.batches if made.hard.lowerings[lowering].dynamic_batch else (1,):
                feeds = {
                    spec.name: tensor[:size].numpy()
                    for spec, tensor in zip(made.task.signature.inputs, made.inputs, strict=True)
                }
                work = executed_work(model.data, feeds)
                assert work.macs <= promise.macs * size, (
                    f"{self.name}: lowering {lowering!r} executes {work.macs / size:.0f} multiply-accumulates a sample "
                    f"at batch {size}; promised were at most {promise.macs}"
                )

    def test_marked_decisions_equal_the_hard_forms(self) -> None:
        """Decisions marked in a file are those the hard form takes."""
        made, models = self.written()
        with torch.no_grad():
            wanted = made.method.decisions(made.hard.module, made.inputs)
        feeds = {spec.name: t.numpy() for spec, t in zip(made.task.signature.inputs, made.inputs, strict=True)}
        for lowering, model in models.items():
            if not made.hard.lowerings[lowering].dynamic_batch:
                continue
            for decision, value in marked_decisions(model.data, feeds).items():
                assert decision in wanted, f"{self.name}: {lowering!r} marks {decision!r}, decisions() does not know it"
                margin = wanted[decision].margin
                differ = value != wanted[decision].value
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
