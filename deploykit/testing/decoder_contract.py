"""The promises of a decoder, as tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deploykit.decoder import Decoder, DecoderConfig
from deploykit.errors import ConfigError, DeploykitError, SignatureError
from deploykit.making import make_decoder
from deploykit.signature import BATCH, Arrays, TensorSpec
from deploykit.testing.without_torch import imports_of

_SAMPLE = "sample"


class DecoderContract:
    """Subclass it in a test file, set ``name`` and write :meth:`examples`.

    Attributes:
        name: the decoder's registered name.
        config: its settings.
    """

    name: ClassVar[str]
    config: ClassVar[dict[str, Any]] = {}

    def examples(self) -> Iterable[Arrays]:
        """Return outputs of a model to decode, several samples each, with something to find in most of them."""
        raise AssertionError(f"{self.name}: its test must say what it decodes: write examples(), outputs by name")

    def decoder(self) -> Decoder:
        """Return a new decoder with the settings."""
        return make_decoder(self.name, self.config)

    def test_it_needs_no_torch(self) -> None:
        """It is imported, made and used in a process that serves, where torch must not be."""
        decoder = self.decoder()
        settings = json.dumps(decoder.config.model_dump(mode="json"))
        use = f"made(made.Config.model_validate_json({settings!r})).decode(arrays)"
        found = imports_of(type(decoder), use, next(iter(self.examples())))
        assert not found, (
            f"{self.name}: imports {', '.join(found)}; a server has none: decode in numpy, in a module that "
            "imports nothing which does"
        )

    def test_it_returns_what_it_declares(self) -> None:
        """Names, dtypes, shapes and ranges are those of ``outputs``, and every row says which sample it is of."""
        found = 0
        for arrays in self.examples():
            answer = self.decoder().decode(arrays)
            wrong = self._fault(answer, _count(arrays))
            assert not wrong, f"{self.name}: {wrong}"
            found += sum(array.size for array in answer.values())
        assert found, f"{self.name}: nothing was found in any example; give examples with something in them"

    def test_its_input_stays_as_it_was(self) -> None:
        """It neither writes into a model's outputs nor hands them out as its own."""
        for arrays in self.examples():
            given = {name: array.copy() for name, array in arrays.items()}
            answer = self.decoder().decode(given)
            for name, array in arrays.items():
                assert given[name].tobytes() == array.tobytes(), (
                    f"{self.name}: writes into {name!r}, which the server still sends; work on a copy"
                )
                for output, decoded in answer.items():
                    assert not np.shares_memory(decoded, given[name]), (
                        f"{self.name}: {output!r} is a view of the model's {name!r}; return a copy"
                    )

    def test_it_decodes_the_same_twice(self) -> None:
        """Also after other arrays, and in a decoder made anew: nothing is remembered, nothing drawn."""
        examples, decoder = list(self.examples()), self.decoder()
        first = [_bits(decoder.decode(arrays)) for arrays in examples]
        again = [_bits(decoder.decode(arrays)) for arrays in reversed(examples)][::-1]
        fresh = [_bits(self.decoder().decode(arrays)) for arrays in examples]
        assert first == again == fresh, f"{self.name}: decodes the same outputs otherwise the second time"

    def test_samples_are_decoded_apart(self) -> None:
        """What is found in a sample does not depend on the others of its batch.

        But numbers of rows of an output may go on counting: the rows that earlier samples have there are added to them.
        """
        for arrays in self.examples():
            together = self.decoder().decode(arrays)
            alone = [self.decoder().decode(_take(arrays, index)) for index in range(_count(arrays))]
            for name, array in together.items():
                parts = [part[name] for part in alone]
                if name == _SAMPLE:
                    wanted = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
                else:
                    wanted = np.concatenate(parts) if parts else array[:0]
                same = array.shape == wanted.shape and (
                    np.array_equal(array, wanted) or (array.dtype.kind in "iu" and _counts_on(array, parts, alone))
                )
                assert same, (
                    f"{self.name}: {name!r} of a batch is not what its samples give one by one, in their order; "
                    "decode every sample on its own"
                )

    def test_nothing_to_find_is_no_fault(self) -> None:
        """Zeros, and a batch without samples, give empty arrays or whatever is declared, or are refused in words."""
        for arrays in self.examples():
            self._decodes_or_refuses("zeros", {name: np.zeros_like(array) for name, array in arrays.items()})
            self._decodes_or_refuses("a batch without samples", {name: array[:0] for name, array in arrays.items()})

    def test_what_is_no_number_is_refused_or_left_out(self) -> None:
        """NaN and infinity lead to a SignatureError or to nothing found, never to NaN in an answer or a crash."""
        for arrays in self.examples():
            for number in (np.nan, np.inf, -np.inf):
                filled = {
                    name: np.full_like(array, number) if array.dtype.kind == "f" else array
                    for name, array in arrays.items()
                }
                self._decodes_or_refuses(f"outputs that are all {number}", filled)

    def test_missing_outputs_are_refused_in_words(self) -> None:
        """A model without the outputs that it decodes is told so, by name."""
        said, known = "", next(iter(self.examples()))
        try:
            self.decoder().decode({"nobody-has-this": np.zeros((1, 1), np.float32)})
        except DeploykitError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(
                f"{self.name}: fails with {type(error).__name__}: {error} where an output is missing; raise "
                "SignatureError and say which"
            ) from error
        assert any(name in said for name in known), (
            f"{self.name}: does not name the output that it misses ({', '.join(known)}), it said {said!r}; raise "
            "SignatureError and say which"
        )

    def test_settings_are_checked(self) -> None:
        """Defaults are legal, every setting is described, and numbers out of all reason are refused or do no harm."""
        config_type = type(self.decoder()).Config
        arrays = next(iter(self.examples()))
        assert issubclass(config_type, DecoderConfig), f"{self.name}: Config must be a deploykit.DecoderConfig"
        try:
            # What has no default is the test's to give.
            required = {name for name, field in config_type.model_fields.items() if field.is_required()}
            given = {name: value for name, value in self.config.items() if name in required}
            make_decoder(self.name, config_type.model_validate(given).model_dump())
        except ConfigError as error:
            raise AssertionError(f"{self.name}: its own default is out of range: {error}") from error
        for setting, field in config_type.model_fields.items():
            assert field.description, f"{self.name}: setting {setting!r} has no description; Field(description=...)"
            if field.annotation not in (int, float):
                continue
            for value in (-(2**40), float("nan")):
                try:
                    decoder = make_decoder(self.name, {**self.config, setting: value})
                except ConfigError:
                    continue
                self._decodes_or_refuses(f"setting {setting!r} = {value:g} is accepted and", arrays, decoder)

    def _decodes_or_refuses(self, what: str, arrays: Arrays, decoder: Decoder | None = None) -> None:
        try:
            with np.errstate(all="ignore"):
                answer = (decoder or self.decoder()).decode(arrays)
        except SignatureError:
            return
        except Exception as error:
            raise AssertionError(
                f"{self.name}: {what} leads to {type(error).__name__}: {error}; return nothing found, or refuse it "
                "with SignatureError (outputs) or a bound in Config (settings)"
            ) from error
        wrong = self._fault(answer, _count(arrays))
        assert not wrong, f"{self.name}: {what}: {wrong}"

    def _fault(self, answer: Arrays, count: int) -> str:
        """Return what is wrong with an answer for ``count`` samples, or nothing."""
        specs = {spec.name: spec for spec in type(self.decoder()).outputs}
        if set(answer) != set(specs):
            return f"decode returned {sorted(answer)}; declared were {sorted(specs)}"
        sizes = {BATCH: count}
        faults = [fault for name, spec in specs.items() for fault in _faults(spec, answer[name], sizes)]
        if not faults and _SAMPLE in answer:
            faults.extend(_sample_faults(answer[_SAMPLE], count))
        return faults[0] if faults else ""


def _faults(spec: TensorSpec, array: NDArray[Any], sizes: dict[str, int]) -> Iterator[str]:
    where = f"declared was {spec.text()}, got {array.dtype}{list(array.shape)}"
    if array.dtype != np.dtype(spec.dtype) or array.ndim != len(spec.shape):
        yield where
        return
    for size, wanted in zip(array.shape, spec.shape, strict=True):
        if isinstance(wanted, int) and size != wanted:
            yield where
        elif isinstance(wanted, str) and sizes.setdefault(wanted, size) != size:
            yield f"{where}; {wanted!r} is {sizes[wanted]} elsewhere"
    if array.size and array.dtype.kind == "f" and not np.isfinite(array).all():
        yield f"{spec.name!r} holds NaN or infinity, which no client can use"
    elif array.size and spec.minimum is not None and array.min() < spec.minimum:
        yield f"{spec.name!r} goes down to {array.min()}; declared was a minimum of {spec.minimum:g}"
    elif array.size and spec.maximum is not None and array.max() > spec.maximum:
        yield f"{spec.name!r} goes up to {array.max()}; declared was a maximum of {spec.maximum:g}"


def _sample_faults(sample: NDArray[Any], count: int) -> Iterator[str]:
    if sample.dtype != np.int64:
        yield f"'sample' must be int64, got {sample.dtype}"
    elif sample.size and (sample.min() < 0 or sample.max() >= count):
        yield f"'sample' goes from {sample.min()} to {sample.max()} in a batch of {count}; it counts from 0"
    elif (np.diff(sample) < 0).any():
        yield "'sample' jumps back; append the rows of the samples in their order"


def _counts_on(array: NDArray[Any], parts: list[NDArray[Any]], alone: list[Arrays]) -> bool:
    """Whether parts are numbers of rows: each is shifted by how many of one output's rows are of earlier samples.

    Args:
        array: an output for a batch.
        parts: the same output for each sample alone.
        alone: all outputs for each sample alone; whose rows are numbered is not known, but it is one for all parts.
    """
    for name in alone[0]:
        rows = [len(answer[name]) for answer in alone]
        starts = np.cumsum([0, *rows[:-1]])
        if np.array_equal(array, np.concatenate([part + start for part, start in zip(parts, starts, strict=True)])):
            return True
    return False


def _count(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _take(arrays: Arrays, index: int) -> Arrays:
    return {name: array[index : index + 1] for name, array in arrays.items()}


def _bits(answer: Arrays) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in answer.items()}
