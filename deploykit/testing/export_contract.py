"""The promises of the files written from a hard form, as tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, ClassVar

import onnx
import pytest
import torch

from deploykit.decisions import NEAR_TIE
from deploykit.outputs import run_module
from deploykit.random_inputs import legal_sizes
from deploykit.signature import BATCH, Arrays
from deploykit.testing.drawn_inputs import checked_draw, clear_rows, free_sizes, rows_of, sizes_of
from deploykit.testing.exported import Exported, exported
from deploykit.testing.file_decisions import marks_of, samples_of_different_ways, ways
from deploykit.testing.specimen import Specimen
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.form_proofs import promise_entry
from deploykit_export.gap import fault
from deploykit_export.graph_facts import named_constants
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_export.tensorrt_engine import BUILDERS, build_engine

_SIZES = 3


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

    def exported(self) -> Exported:
        """Return the specimen and its files, written once."""
        return exported(self.name, self.task, self.config)

    def test_every_file_equals_the_hard_form(self) -> None:
        """ONNX Runtime gives the hard form's outputs within the promised tolerance at every batch size.

        So it does under its own default settings, which a file must bear as it will meet them elsewhere.
        """
        import onnxruntime

        from deploykit_serving.runtimes import open_session

        written = self.exported()
        made = written.made
        for lowering, data in written.files.items():
            ours = open_session(data)
            default = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            names = [spec.name for spec in made.task.signature.outputs]
            for size in self.batches if made.hard.lowerings[lowering].dynamic_batch else (1,):
                few = _samples(made, slice(0, size))
                wanted = run_module(made.hard.module, few, made.task.signature)
                wrong = fault(ours.run(few), wanted, made.hard.promise.tolerance)
                assert not wrong, f"{self.name}: lowering {lowering!r} at batch {size} is not the hard form: {wrong}"
                got = dict(zip(names, default.run(names, dict(few)), strict=True))
                wrong = fault(got, wanted, made.hard.promise.tolerance)
                assert not wrong, (
                    f"{self.name}: lowering {lowering!r} at batch {size} is the hard form under our settings of ONNX "
                    f"Runtime and another under its own: {wrong}; write what decides (accuracy levels) into the file"
                )

    def test_every_file_equals_the_hard_form_at_other_sizes(self) -> None:
        """Free dimensions are free in the file, too: it is run at sizes that it was not traced with."""
        from deploykit_serving.runtimes import open_session

        written = self.exported()
        made = written.made
        if not free_sizes(made.task.signature):
            pytest.skip(f"{self.name}: only the batch is free in the signature of its task")
        drawn = list(self._other_sizes(made))
        for lowering, data in written.files.items():
            session, compared = open_session(data), 0
            for arrays in drawn:
                few = arrays if made.hard.lowerings[lowering].dynamic_batch else _first(arrays)
                sizes = sizes_of(made.task.signature, few)
                wanted = run_module(made.hard.module, few, made.task.signature)
                clear = clear_rows(made.method, made.hard.module, few, made.task.signature)
                compared += int(clear.sum())
                got = session.run(few)
                wrong = fault(rows_of(got, clear), rows_of(wanted, clear), made.hard.promise.tolerance)
                assert not wrong, (
                    f"{self.name}: lowering {lowering!r} at sizes {sizes} is not the hard form: {wrong}; is a size of "
                    "the example a constant in its graph? Compute it from the tensor's shape"
                )
            assert compared, (
                f"{self.name}: lowering {lowering!r}: every drawn sample has a decision near its tie, so none could be "
                "compared"
            )

    def _other_sizes(self, made: Specimen) -> Iterator[Arrays]:
        """Yield random inputs whose free dimensions go through their sizes, one batch of 1 and then batches of 2."""
        signature = made.task.signature
        choices = {name: legal_sizes(signature, name, _SIZES) for name in free_sizes(signature)}
        batches = legal_sizes(signature, BATCH, 2)
        seen: dict[str, set[int]] = {name: set() for name in choices}
        for step in range(2 * _SIZES):
            # Shifted against each other, so that two free dimensions are not always equal.
            sizes = {
                name: few[(step + step // _SIZES * at) % len(few)] for at, (name, few) in enumerate(choices.items())
            }
            sizes[BATCH] = batches[min(step, len(batches) - 1)]
            arrays = checked_draw(self.name, made.task, made.task.random_inputs, sizes, seed=step)
            for name, size in sizes_of(signature, arrays).items():
                seen.get(name, set()).add(size)
            yield arrays
        for name, got in seen.items():
            assert len(got) > 1 or len(choices[name]) == 1, (
                f"{self.name}: {name!r} is free in the signature, and random_inputs of task {made.task.card.name!r} "
                f"gave only size {min(got)} for it; draw the sizes that are asked for"
            )

    def test_files_weigh_and_work_what_was_promised(self) -> None:
        """Bytes, dtypes, leftovers and executed multiply-accumulates are as promised."""
        written = self.exported()
        made = written.made
        promise = made.hard.promise
        entry = promise_entry(promise)
        for lowering, data in written.files.items():
            faults = measure_shrinkage(data, entry).faults
            assert not faults, f"{self.name}: lowering {lowering!r}: {'; '.join(faults)}"
            if promise.macs is None:
                continue
            # Several samples alone: a route that costs more than promised must not hide in a batch's mean.
            rows = [slice(index, index + 1) for index in range(4)]
            if made.hard.lowerings[lowering].dynamic_batch:
                rows += [slice(0, size) for size in self.batches]
            for row in rows:
                work = executed_work(data, _samples(made, row))
                size = row.stop - row.start
                assert not work.uncounted, (
                    f"{self.name}: lowering {lowering!r} runs {', '.join(work.uncounted)}, whose work is not counted; "
                    "write it as Conv, Gemm or MatMul, or promise no multiply-accumulates"
                )
                assert work.macs <= promise.macs * size, (
                    f"{self.name}: lowering {lowering!r} executes {work.macs / size:.0f} multiply-accumulates a sample "
                    f"at batch {size}; promised were at most {promise.macs}"
                )

    def test_no_file_holds_what_only_training_needs(self) -> None:
        """No tensor of the soft form is in a file that is not in the hard form either."""
        written = self.exported()
        made = written.made
        kept = {content for tensor in made.hard.module.state_dict().values() for content in _contents(tensor)}
        trained = {
            content: name
            for name, tensor in made.soft.state_dict().items()
            if tensor.numel() > 1 and tensor.unique().numel() > 1  # zeros and ones are equal by chance
            for content in _contents(tensor)
        }
        for lowering, data in written.files.items():
            for name, tensor in named_constants(onnx.load_from_string(data).graph):
                array = onnx.numpy_helper.to_array(tensor)
                content = (str(array.dtype), array.tobytes())
                assert content not in trained or content in kept, (
                    f"{self.name}: lowering {lowering!r} carries {name!r}, which is the soft form's "
                    f"{trained[content]!r}; the hard form has no such tensor, so only training needs it"
                )

    def test_marked_decisions_equal_the_hard_forms(self) -> None:
        """Every decision the hard form marks is marked in its file, and is the one the hard form takes."""
        written = self.exported()
        made = written.made
        for lowering, data in written.files.items():
            entry = made.hard.lowerings[lowering]
            row = slice(0, len(made.inputs[0]) if entry.dynamic_batch else 1)
            few = tuple(tensor[row] for tensor in made.inputs)
            marks = marks_of(entry.module if entry.module is not None else made.hard.module, few)
            with torch.no_grad():
                wanted = made.method.decisions(made.hard.module, few)
            found = marked_decisions(data, _samples(made, row))
            assert marks <= set(found), (
                f"{self.name}: {lowering!r} lost the marks {sorted(marks - set(found))}; mark the tensor that "
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
                    differ &= margin > NEAR_TIE
                assert not differ.any(), f"{self.name}: {lowering!r} decides {decision!r} otherwise than the hard form"

    def test_files_follow_every_sample(self) -> None:
        """Samples that take different ways in the hard form take different ways in the file."""
        written = self.exported()
        made = written.made
        for lowering, data in written.files.items():
            if not made.hard.lowerings[lowering].dynamic_batch:
                continue
            varied, constant = [], []
            for decision, value in marked_decisions(data, _samples(made, slice(0, None))).items():
                arrays = None if ways(value) > 1 else samples_of_different_ways(made, decision)
                if ways(value) == 1 and arrays is None:
                    constant.append(decision)  # a gate that training has not closed for anybody yet, perhaps
                    continue
                varied.append(decision)
                assert arrays is None or ways(marked_decisions(data, arrays)[decision]) > 1, (
                    f"{self.name}: lowering {lowering!r} takes {decision!r} in one way for all samples, the hard form "
                    "does not: one route was traced; choose with torch.where, gather, index_select or torch.cond, "
                    "not with a Python if or a value from harden"
                )
            assert varied or not constant, (
                f"{self.name}: the hard form takes {constant} in the same way for every sample that was tried, so "
                "nothing shows that its file can take another; what depends on weights alone is not to be marked"
            )

    def test_answers_are_the_same_in_every_session(self) -> None:
        """The same file gives the same bits when it is loaded again and run again."""
        from deploykit_serving.runtimes import open_session

        written = self.exported()
        for lowering, data in written.files.items():
            row = slice(0, None if written.made.hard.lowerings[lowering].dynamic_batch else 1)
            few = _samples(written.made, row)
            session = open_session(data)
            answers = [session.run(few), session.run(few), open_session(data).run(few)]
            for output, array in answers[0].items():
                assert all(array.tobytes() == other[output].tobytes() for other in answers[1:]), (
                    f"{self.name}: lowering {lowering!r} gives another {output!r} for the same samples when it is run "
                    "or loaded again; take out what draws random numbers"
                )

    def test_tensorrt_builds_an_engine(self) -> None:
        """Every lowering for TensorRT is accepted and built; running it needs a GPU and is not done here."""
        written = self.exported()
        made = written.made
        wanted = [name for name, lowering in made.hard.lowerings.items() if "tensorrt" in lowering.targets]
        if not any(importlib.util.find_spec(builder) for builder in BUILDERS):
            pytest.skip("neither tensorrt nor tensorrt_rtx is installed (extra: tensorrt-rtx)")
        assert wanted, f"{self.name}: no lowering serves tensorrt"
        for lowering in wanted:
            engine = build_engine(written.files[lowering], made.task.signature, sizes=self.engine_sizes)
            assert engine.layers > 0
            assert len(engine.data) > 0


def _samples(made: Specimen, row: slice) -> Arrays:
    specs = made.task.signature.inputs
    return {spec.name: tensor[row].numpy() for spec, tensor in zip(specs, made.inputs, strict=True)}


def _first(arrays: Arrays) -> Arrays:
    return {name: array[:1] for name, array in arrays.items()}


def _contents(tensor: torch.Tensor) -> list[tuple[str, bytes]]:
    """Return dtype and bytes of a tensor as it is and, if it is a matrix, transposed, as exporters like to write it."""
    array = tensor.detach().cpu().numpy()
    return [(str(array.dtype), item.tobytes()) for item in ((array, array.T) if array.ndim == 2 else (array,))]
