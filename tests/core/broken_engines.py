"""An honest target and an honest runtime and, for each promise of their contracts, one that breaks it."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit import Runtime, RuntimeOptions, Signature, Target, Written
from deploykit.errors import ExportError, ServingError
from deploykit.signature import Arrays


class Listing(Target):
    """The operators of a model as text."""

    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        try:
            graph = onnx.load_from_string(model).graph
        except Exception as error:
            raise ExportError(f"{variant}: not an ONNX model: {error}") from error
        if not graph.node:
            raise ExportError(f"{variant}: not an ONNX model: it has no operator")
        return Written({"operators.txt": "\n".join(node.op_type for node in graph.node).encode()})


class Wordless(Listing):
    def missing(self) -> Any:
        return None


class Wavering(Listing):
    reasons: ClassVar[Any] = itertools.cycle(["no licence", "no network"])

    def missing(self) -> str:
        return str(next(self.reasons))


class Nowhere(Listing):
    def missing(self) -> str:
        return "it needs a machine that nobody has"


class Hollow(Listing):
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return Written({"operators.txt": b""})


class Fileless(Listing):
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return Written({})


class Climbing(Listing):
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return Written({"../operators.txt": model})


class Stamping(Listing):
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return Written({"operators.txt": str(time.perf_counter_ns()).encode()})


class Renaming(Listing):
    numbers: ClassVar[Any] = itertools.count()

    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return Written({f"operators-{next(self.numbers)}.txt": model})


class Swallowing(Listing):
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        return Written({"model.bin": model or b"nothing"})


class Crashing(Listing):
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        onnx.load_from_string(model)
        raise RuntimeError("segment 3 is not there")


class Plain:
    """A session over ONNX's own interpreter, slow and obvious."""

    def __init__(self, model: bytes) -> None:
        from onnx.reference import ReferenceEvaluator

        loaded = onnx.load_from_string(model)
        onnx.checker.check_model(loaded)
        self.names = [output.name for output in loaded.graph.output]
        self.evaluator = ReferenceEvaluator(loaded)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        values = self.evaluator.run(None, dict(inputs))
        return {name: np.array(value) for name, value in zip(self.names, values, strict=True)}


class Interpreter(Runtime):
    session: Any = Plain

    def open_session(self, model: bytes, options: RuntimeOptions) -> Any:
        try:
            return self.session(model)
        except Exception as error:
            raise ServingError(f"not an ONNX model: {error}") from error


class Leaking(Interpreter):
    """Lets the errors of what it stands on through."""

    def open_session(self, model: bytes, options: RuntimeOptions) -> Any:
        return self.session(model)


class Speechless(Interpreter):
    def open_session(self, model: bytes, options: RuntimeOptions) -> Any:
        try:
            return self.session(model)
        except Exception:
            raise ServingError from None


class Rounded(Plain):
    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return {name: np.round(value, 1) for name, value in super().run(inputs).items()}


class Rounding(Interpreter):
    session = Rounded


class Scaled(Plain):
    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        answer = super().run(inputs)
        for array in inputs.values():
            array[...] *= 2
        return answer


class Scaling(Interpreter):
    session = Scaled


class Borrowed(Plain):
    """Works in the inputs, and puts everything back."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        for array in inputs.values():
            array[...] *= 2
            array[...] /= 2
        return super().run(inputs)


class Borrowing(Interpreter):
    session = Borrowed


class Cached(Plain):
    """Hands out one array for what was asked before."""

    def __init__(self, model: bytes) -> None:
        super().__init__(model)
        self.known: dict[bytes, dict[str, NDArray[Any]]] = {}

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        key = b"".join(array.tobytes() for array in inputs.values())
        if key not in self.known:
            self.known[key] = super().run(inputs)
        return dict(self.known[key])


class Caching(Interpreter):
    session = Cached


class Buffered(Plain):
    """Answers from one buffer a name."""

    def __init__(self, model: bytes) -> None:
        super().__init__(model)
        self.buffers: dict[str, NDArray[Any]] = {}

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        for name, value in super().run(inputs).items():
            if name not in self.buffers or self.buffers[name].shape != value.shape:
                self.buffers[name] = value
            else:
                self.buffers[name][...] = value
        return dict(self.buffers)


class Buffering(Interpreter):
    session = Buffered


class Locked(Plain):
    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        answer = super().run(inputs)
        for array in answer.values():
            array.setflags(write=False)
        return answer


class Locking(Interpreter):
    session = Locked


class Shared(Plain):
    """Puts the inputs where every thread finds them, and looks a moment later."""

    inputs: Arrays

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        self.inputs = inputs
        if threading.active_count() > 2:
            time.sleep(0.001)
        return super().run(self.inputs)


class Sharing(Interpreter):
    session = Shared


class Later(Plain):
    """Looks at the model when it is first asked."""

    def __init__(self, model: bytes) -> None:
        self.model = model

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return Plain(self.model).run(inputs)


class Delaying(Interpreter):
    session = Later


class Heavy(Plain):
    def __init__(self, model: bytes) -> None:
        import torch

        torch.set_num_threads(1)
        super().__init__(model)


class Weighty(Interpreter):
    session = Heavy


class Mute(Interpreter):
    def missing(self) -> Any:
        return 0


class Absent(Interpreter):
    def missing(self) -> str:
        return "it needs a machine that nobody has"


TARGETS = [item for item in list(globals().values()) if isinstance(item, type) and issubclass(item, Listing)]
RUNTIMES = [item for item in list(globals().values()) if isinstance(item, type) and issubclass(item, Interpreter)]
