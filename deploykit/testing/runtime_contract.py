"""The promises of a runtime, as tests: what executes a file gives what ONNX Runtime gives."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest

from deploykit.bundle import Bundle
from deploykit.errors import ServingError
from deploykit.hard_form import FLOAT32, Tolerance
from deploykit.making import make_runtime
from deploykit.random_inputs import random_inputs
from deploykit.runtime import Runtime, RuntimeOptions, Session
from deploykit.signature import BATCH, Arrays
from deploykit.testing.exported import exported
from deploykit.testing.small_models import SmallModel, small_models
from deploykit.testing.without_torch import imports_of
from deploykit_export.gap import fault

_THREADS = 4
_RUNS = 32


class RuntimeContract:
    """Subclass it in a test file and set ``name``.

    Attributes:
        name: the runtime's registered name.
        tolerance: how far its answers may be from ONNX Runtime's on the CPU.
        method: also run the files of this method's specimen; none if empty. A runtime that starts from the bundle
            runs nothing else.
    """

    name: ClassVar[str]
    tolerance: ClassVar[Tolerance] = FLOAT32
    method: ClassVar[str] = ""

    def runtime(self) -> Runtime:
        """Return the runtime, made anew; skips the test where it cannot run on this machine."""
        made = make_runtime(self.name)
        if reason := made.missing():
            pytest.skip(f"runtime {self.name!r}: {reason}")
        return made

    def session(self, model: SmallModel) -> Session:
        """Load a model as the server does; skips the test where the runtime cannot run on this machine."""
        from deploykit_serving.runtimes import open_session, open_variant

        if self.runtime().starts_from == "file":
            return open_session(model.data, self.name)
        written = exported(self.method, "", {})
        # The specimen is what the method makes of its task; a bundle that says so can be made into a model again.
        manifest = written.bundle.manifest.model_copy(update={"task": written.made.task.card.name})
        entry = manifest.variant(model.name.removeprefix(f"{self.method}-"))
        assert entry is not None
        return open_variant(Bundle(written.bundle.path, manifest), entry, self.name)

    def models(self) -> Iterable[SmallModel]:
        """Return what is run: three small models, and the files of :attr:`method`."""
        made = self.runtime()
        if made.starts_from == "file":
            yield from small_models()
        elif not self.method:
            pytest.skip(f"runtime {self.name!r} starts from bundles: set method, whose specimen's bundle it is to run")
        if self.method:
            written = exported(self.method, "", {})
            for name, data in written.files.items():
                if set(written.made.hard.lowerings[name].targets) & set(made.targets):
                    yield SmallModel(f"{self.method}-{name}", data, written.made.task.signature)

    def test_it_says_what_it_misses(self) -> None:
        """Empty where it can run, else the reason in words."""
        reason = make_runtime(self.name).missing()
        assert isinstance(reason, str), (
            f"{self.name}: missing() returned {reason!r}; wanted text, empty if nothing is missing"
        )

    def test_it_answers_as_onnxruntime_does(self) -> None:
        """Names, shapes and dtypes are the same and numbers are within the tolerance, for batches of 1 and of 5."""
        from deploykit_serving.runtimes import open_session

        for model in self.models():
            session, reference = self.session(model), open_session(model.data)
            for batch in (1, 5):
                arrays = _inputs(model, batch)
                wrong = fault(session.run(arrays), reference.run(arrays), self.tolerance)
                assert not wrong, (
                    f"{self.name}: model {model.name!r} at batch {batch} is not what ONNX Runtime answers: {wrong}"
                )

    def test_its_inputs_stay_as_they_were(self) -> None:
        """Nothing writes into what the caller gave, which may be read-only."""
        for model in self.models():
            session, arrays = self.session(model), _inputs(model, 3)
            given = {name: array.copy() for name, array in arrays.items()}
            session.run(given)
            changed = [name for name, array in arrays.items() if given[name].tobytes() != array.tobytes()]
            assert not changed, f"{self.name}: running model {model.name!r} changed its input {changed[0]!r}; copy it"
            for array in given.values():
                array.setflags(write=False)
            try:
                session.run(given)
            except Exception as error:
                raise AssertionError(
                    f"{self.name}: fails on inputs of model {model.name!r} that are read-only: "
                    f"{type(error).__name__}: {error}; copy what has to be written to"
                ) from error

    def test_its_outputs_are_the_callers_own(self) -> None:
        """A later run does not change an earlier answer, and writing into an answer does not change a later one."""
        for model in self.models():
            session = self.session(model)
            first = session.run(_inputs(model, 2, seed=0))
            kept = _copied(first)
            session.run(_inputs(model, 2, seed=1))
            for name, array in kept.items():
                assert first[name].tobytes() == array.tobytes(), (
                    f"{self.name}: the next run of model {model.name!r} overwrites {name!r} of the last; "
                    "return a copy of the buffer"
                )
                assert first[name].flags.writeable, f"{self.name}: {name!r} is read-only; return a copy"
                first[name][...] = first[name] == 0  # another number everywhere, whatever the dtype
            again = session.run(_inputs(model, 2, seed=0))
            for name, array in kept.items():
                assert again[name].tobytes() == array.tobytes(), (
                    f"{self.name}: writing into {name!r} of an answer of model {model.name!r} changes what the next "
                    "run gives; return a copy of what is kept"
                )

    def test_threads_do_not_disturb_each_other(self) -> None:
        """Several threads on one session get what each would get alone."""
        for model in self.models():
            session = self.session(model)
            asked = [_inputs(model, 1 + index % 3, seed=index) for index in range(_RUNS)]
            wanted = [_copied(session.run(arrays)) for arrays in asked]
            with ThreadPoolExecutor(_THREADS) as pool:
                got = [_copied(answer) for answer in pool.map(session.run, asked * 4)]
            for index, answer in enumerate(got):
                wrong = fault(answer, wanted[index % _RUNS], Tolerance())
                assert not wrong, (
                    f"{self.name}: with {_THREADS} threads model {model.name!r} answers otherwise than with one: "
                    f"{wrong}; take a lock around what is shared"
                )

    def test_it_refuses_what_is_no_model(self) -> None:
        """Garbage leads to a ServingError in words when it is loaded, not to a crash at the first request.

        The runtime itself is asked: what opens sessions for the server would turn any exception into a ServingError.
        """
        runtime, torn = self.runtime(), small_models()[0].data[:40]
        for what, data in (("nothing", b""), ("text", b"this is no model"), ("a torn file", torn)):
            said = ""
            try:
                runtime.open_session(data, RuntimeOptions())
            except ServingError as error:
                said = str(error).strip()
            except Exception as error:
                raise AssertionError(
                    f"{self.name}: {what} in place of a model leads to {type(error).__name__}: {error}; raise "
                    "ServingError"
                ) from error
            assert said, (
                f"{self.name}: loads {what} as if it were a model, or refuses it without a word; raise ServingError"
            )

    def test_it_needs_no_torch(self) -> None:
        """It loads and runs a model in a process that serves, where torch must not be."""
        made = self.runtime()
        if made.starts_from == "bundle":
            pytest.skip(f"runtime {self.name!r} starts from bundles, so no server loads it")
        model = small_models()[0]
        self.session(model)
        use = (
            "from deploykit.runtime import RuntimeOptions; model = arrays.pop('model').tobytes(); "
            "made().open_session(model, RuntimeOptions()).run(arrays)"
        )
        arrays = {**_inputs(model, 1), "model": np.frombuffer(model.data, np.uint8)}
        found = imports_of(type(made), use, arrays)
        assert not found, f"{self.name}: imports {', '.join(found)}; a server has none"


def _inputs(model: SmallModel, batch: int, seed: int = 0) -> Arrays:
    return random_inputs(model.signature, np.random.default_rng(seed), {BATCH: batch})


def _copied(answer: Arrays) -> Arrays:
    return {name: array.copy() for name, array in answer.items()}
