"""The promises of a served bundle, as tests: HTTP gives what the file gives and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import ServingError
from deploykit.hard_form import Tolerance
from deploykit.making import make_decoder
from deploykit.manifest import VariantEntry
from deploykit.signature import Arrays
from deploykit.testing.exported import Exported, exported
from deploykit.testing.served import served
from deploykit_export.gap import fault

_EXACT = Tolerance()


class ServingContract:
    """Subclass it beside :class:`MethodContract` and set ``name``: the specimen is exported and really served.

    The server's processes cannot import torch.

    Attributes:
        served_batches: batch sizes that are asked for over HTTP.
    """

    name: ClassVar[str]
    task: ClassVar[str] = ""
    config: ClassVar[dict[str, Any]] = {}
    served_batches: ClassVar[tuple[int, ...]] = (1, 7)

    def exported(self) -> Exported:
        """Return the specimen and its bundle, written once."""
        return exported(self.name, self.task, self.config)

    def url(self) -> str:
        """Return the base URL of the server, started once.

        Raises:
            AssertionError: it does not come up, with its words.
        """
        try:
            return served(self.exported().bundle)
        except ServingError as error:
            raise AssertionError(f"{self.name}: {error}") from error

    def test_it_is_served_without_torch(self) -> None:
        """The server comes up, tests the bundle by itself, and knows the signature."""
        from deploykit_serving.client import Client

        bundle = self.exported().bundle
        with Client(self.url()) as client:
            told = client.metadata(bundle.manifest.name)
        names = [tensor["name"] for tensor in told["inputs"]]
        wanted = [spec.name for spec in bundle.manifest.signature.inputs]
        assert names == wanted, f"{self.name}: the server tells of inputs {names}; wanted {wanted}"

    def test_http_answers_as_in_process(self) -> None:
        """Every variant gives over HTTP what a session in this process gives, bit for bit, in JSON and in binary."""
        from deploykit_serving.client import Client
        from deploykit_serving.runtimes import open_session

        bundle = self.exported().bundle
        with Client(self.url()) as client:
            for entry in _variants(bundle):
                session = open_session(bundle.read(entry.file))
                for few in self._asked(entry):
                    wanted = session.run(few)
                    for binary in (True, False) if _has_json(bundle) else (True,):
                        who = f"{self.name}: variant {entry.name!r} over HTTP {'in binary' if binary else 'as JSON'}"
                        try:
                            got = client.infer(bundle.manifest.name, few, variant=entry.name, binary=binary)
                        except ServingError as error:
                            raise AssertionError(f"{who}: {error}") from error
                        # JSON has no NaN and no infinity: such a number comes back as another one, or not at all.
                        wrong = fault(got, wanted, _EXACT)
                        assert not wrong, f"{who} is not what it is in process: {wrong}{_no_numbers(wanted)}"

    def test_http_refuses_what_does_not_fit(self) -> None:
        """An input that is missing, unknown, of another dtype or of another shape is the caller's fault: 4xx."""
        from deploykit_serving.client import Client

        bundle = self.exported().bundle
        with Client(self.url()) as client:
            for what, arrays in self._wrong():
                try:
                    client.infer(bundle.manifest.name, arrays)
                except ServingError as error:
                    text = str(error)
                    assert " answered 4" in text, f"{self.name}: {what}: wanted a refusal with 4xx, got: {text[:300]}"
                else:
                    raise AssertionError(f"{self.name}: {what} is answered as if it were right; wanted a refusal")

    def test_the_decoder_is_applied_on_request(self) -> None:
        """What the server decodes is what the decoder makes of the outputs here; without a decoder it refuses."""
        from deploykit_serving.client import Client
        from deploykit_serving.runtimes import open_session

        bundle = self.exported().bundle
        manifest = bundle.manifest
        entry = next(_variants(bundle))
        few = next(iter(self._asked(entry)))
        said, got = "", dict[str, NDArray[Any]]()
        with Client(self.url()) as client:
            try:
                got = client.infer(manifest.name, few, decode=True)
            except ServingError as error:
                said = str(error)
        if not manifest.decoder:
            assert " answered 4" in said, (
                f"{self.name}: has no decoder, and a request to decode is not refused with 4xx: {said or sorted(got)}"
            )
            return
        assert not said, f"{self.name}: decoder {manifest.decoder!r} on request: {said}"
        outputs = open_session(bundle.read(entry.file)).run(few)
        wanted = make_decoder(manifest.decoder, manifest.decoder_config).decode(outputs)
        wrong = fault(got, wanted, _EXACT)
        assert not wrong, f"{self.name}: decoder {manifest.decoder!r} on request is not what it is in process: {wrong}"

    def _asked(self, entry: VariantEntry) -> list[Arrays]:
        made = self.exported().made
        inputs = {
            spec.name: tensor.numpy() for spec, tensor in zip(made.task.signature.inputs, made.inputs, strict=True)
        }
        sizes = self.served_batches if entry.dynamic_batch else (1,)
        return [{name: array[:size] for name, array in inputs.items()} for size in sizes]

    def _wrong(self) -> Iterator[tuple[str, Arrays]]:
        """Yield requests that no signature of this method's allows, and what is wrong with each."""
        right = self._asked(next(_variants(self.exported().bundle)))[0]
        yield "an unknown input", {**right, "nobody-has-this": np.zeros(1, np.float32)}
        for name, array in right.items():
            yield f"no input {name!r}", {other: value for other, value in right.items() if other != name}
            other = np.float64 if array.dtype != np.float64 else np.float32
            yield f"input {name!r} as {np.dtype(other)}", {**right, name: array.astype(other)}
            yield f"input {name!r} with a dimension more", {**right, name: array[..., None]}
            yield f"input {name!r} without samples", {**right, name: array[:0]}


def _variants(bundle: Bundle) -> Iterator[VariantEntry]:
    return (entry for entry in bundle.manifest.hard_variants if "onnxruntime" in entry.targets)


def _has_json(bundle: Bundle) -> bool:
    """Whether every tensor has a form in JSON, which float16 has not."""
    signature = bundle.manifest.signature
    return all(spec.dtype != "float16" for spec in (*signature.inputs, *signature.outputs))


def _no_numbers(outputs: Arrays) -> str:
    bad = [name for name, array in outputs.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    return f"; {', '.join(map(repr, bad))} holds NaN or infinity, which JSON cannot say" if bad else ""
