"""The promises of a method's two forms, as tests."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deploykit.decisions import NEAR_TIE, agreement
from deploykit.hard_form import HardForm
from deploykit.hardening import state_digest
from deploykit.lifecycle import build, harden
from deploykit.outputs import named_outputs, tensors
from deploykit.signature import Arrays
from deploykit.testing.drawn_inputs import clear_rows, for_drawn_inputs, rows_of
from deploykit.testing.specimen import Specimen, loss_on, specimen
from deploykit_export.gap import fault


class MethodContract:
    """Subclass it in a test file and set ``name``.

    Attributes:
        name: the method's registered name.
        task: the task to test on; the first of the method's card by default.
        config: settings that keep the tests quick.
        oracle_samples: how many samples the slow oracle is asked for.
        oracle_examples: how many times it is asked for inputs that are drawn, up to three samples each.
    """

    name: ClassVar[str]
    task: ClassVar[str] = ""
    config: ClassVar[dict[str, Any]] = {}
    oracle_samples: ClassVar[int] = 4
    oracle_examples: ClassVar[int] = 20

    def random_inputs(self, random: np.random.Generator, sizes: Mapping[str, int]) -> Arrays:
        """Draw legal inputs of these sizes; the task's way by default. See :meth:`deploykit.Task.random_inputs`."""
        return self.specimen().task.random_inputs(random, sizes)

    def budgets(self, hard: HardForm) -> Mapping[str, tuple[int, int]]:
        """Return by name what the hard form keeps and what its settings allow it to keep, which must be the same.

        Override it if the method keeps to a budget. Count what is kept in the tensors of ``hard.module`` and compute
        what is allowed from the settings: numbers that ``harden`` has written down itself prove nothing.
        """
        return {}

    def specimen(self) -> Specimen:
        """Return the method's specimen, shared by all tests."""
        return specimen(self.name, self.task, self.config)

    def test_gradients_reach_every_parameter(self) -> None:
        """Somewhere in training each parameter gets a finite gradient that is not zero everywhere."""
        made = self.specimen()
        torch.manual_seed(0)
        soft = build(made.method, made.task).train()
        samples = made.task.samples("train").take(slice(0, 24))
        reached: set[str] = set()
        for progress in (0.0, 0.5, 1.0):
            made.method.on_step(soft, progress)
            soft.zero_grad()
            loss_on(made.method, soft, made.task, samples).backward()  # type: ignore[no-untyped-call]
            for path, parameter in soft.named_parameters():
                if parameter.grad is None:
                    continue
                assert torch.isfinite(parameter.grad).all(), f"{self.name}: gradient of {path!r} is not finite"
                if parameter.grad.abs().max() > 0:
                    reached.add(path)
        trained = {path for path, parameter in soft.named_parameters() if parameter.requires_grad}
        assert trained, f"{self.name}: the soft form has no parameter to train"
        assert not trained - reached, f"{self.name}: no gradient ever reaches {sorted(trained - reached)}"

    def test_hardening_twice_gives_the_same_form(self) -> None:
        """Harden is a function of the soft form: no state, no chance."""
        made = self.specimen()
        again = harden(made.soft, made.calibration)
        assert _identity(again, made) == _identity(made.hard, made), f"{self.name}: harden is not repeatable"

    def test_state_survives_a_round_trip(self) -> None:
        """Weights and buffers are all there is: a fresh soft form with the same state hardens to the same form."""
        made = self.specimen()
        torch.manual_seed(1)
        fresh = build(made.method, made.task)
        fresh.load_state_dict(made.soft.state_dict())
        again = harden(fresh.eval(), made.calibration)
        assert _identity(again, made) == _identity(made.hard, made), (
            f"{self.name}: something that decides the hard form is not in the state_dict; register it as a buffer"
        )

    def test_hard_form_equals_its_oracle(self) -> None:
        """The slow reference, computed from the soft form's parameters, agrees within the promised tolerance.

        It must be another way to the answer: one that calls ``harden`` agrees with any hard form.
        """
        made = self.specimen()
        few = tuple(tensor[: self.oracle_samples] for tensor in made.inputs)

        def refuse(*_: object) -> NoReturn:
            raise AssertionError(f"{self.name}: the oracle calls harden; compute the answer without the hard form")

        with mock.patch.object(type(made.method), "harden", refuse), torch.no_grad():
            wanted = made.method.oracle(made.soft, few)
        wrong = fault(_answers(made.hard.module, few, made), wanted, made.hard.promise.tolerance)
        assert not wrong, f"{self.name}: the hard form differs from its oracle: {wrong}"

    def test_hard_form_equals_its_oracle_on_drawn_inputs(self) -> None:
        """Not only on the first test samples: on any, and on random inputs of any size that the signature allows.

        Samples with a decision near its tie are left out: there both answers are right.
        """
        made, compared = self.specimen(), 0

        def check(arrays: Arrays) -> None:
            nonlocal compared
            inputs = tensors(arrays, made.task.signature)
            given = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
            try:
                clear = clear_rows(made.method, made.hard.module, arrays, made.task.signature)
                got = _answers(made.hard.module, inputs, made)
                with torch.no_grad():
                    wanted = made.method.oracle(made.soft, inputs)
            except Exception as error:
                raise AssertionError(
                    f"{self.name}: a form fails on legal inputs {given}: {type(error).__name__}: {error}; mend it, or "
                    "override random_inputs in the task if these should not be legal"
                ) from error
            compared += int(clear.sum())
            wrong = fault(rows_of(got, clear), rows_of(wanted, clear), made.hard.promise.tolerance)
            assert not wrong, f"{self.name}: the hard form differs from its oracle on drawn inputs {given}: {wrong}"

        for_drawn_inputs(
            self.name, made.task, self.random_inputs, check, examples=self.oracle_examples, largest_batch=3
        )
        assert compared, f"{self.name}: every drawn sample has a decision near its tie, so none could be compared"

    def test_samples_do_not_influence_each_other(self) -> None:
        """A sample gets the same answer alone and in a batch."""
        made = self.specimen()
        together = _answers(made.hard.module, made.inputs, made)
        for index in (0, 5, len(made.inputs[0]) - 1):
            row = slice(index, index + 1)
            alone = _answers(made.hard.module, tuple(tensor[row] for tensor in made.inputs), made)
            in_batch = {output: array[row] for output, array in together.items()}
            wrong = fault(alone, in_batch, made.hard.promise.tolerance)
            assert not wrong, f"{self.name}: the answer to sample {index} depends on the other samples: {wrong}"

    def test_earlier_answers_leave_no_trace(self) -> None:
        """A sample gets the same answer before and after all others."""
        made = self.specimen()
        module = copy.deepcopy(made.hard.module)
        few = tuple(tensor[:2] for tensor in made.inputs)
        before = {output: array.copy() for output, array in _answers(module, few, made).items()}
        _answers(module, made.inputs, made)
        after = _answers(module, few, made)
        for output, array in before.items():
            assert array.tobytes() == after[output].tobytes(), (
                f"{self.name}: output {output!r} for the same samples is another one after others were answered; "
                "what a hard form needs to know of its inputs it must learn in harden"
            )

    def test_budgets_are_kept_exactly(self) -> None:
        """What is kept is what the settings allow: not one less, not one more."""
        made = self.specimen()
        budgets = self.budgets(made.hard)
        if not budgets:
            pytest.skip(f"{self.name}: its test names no budget")
        for what, (kept, allowed) in budgets.items():
            assert kept == allowed, (
                f"{self.name}: keeps {kept} {what}, its settings allow {allowed}; harden is off by {kept - allowed:+d}"
            )

    def test_both_forms_know_the_same_decisions(self) -> None:
        """Names and shapes agree, so that the forms can be compared."""
        made = self.specimen()
        with torch.no_grad():
            soft = made.method.decisions(made.soft, made.inputs)
            hard = made.method.decisions(made.hard.module, made.inputs)
        assert soft, f"{self.name}: decisions() names no decision"
        assert set(soft) == set(hard), f"{self.name}: the forms name {sorted(soft)} and {sorted(hard)}"
        for decision, of_soft in soft.items():
            assert of_soft.value.shape == hard[decision].value.shape, f"{self.name}: {decision!r} differs in shape"
            for margin in (of_soft.margin, hard[decision].margin):
                if margin is None or not margin.size:
                    continue
                assert (margin >= 0).all(), f"{self.name}: margins of {decision!r} must be numbers of at least 0"
                clear = (margin > NEAR_TIE).any()
                assert clear, f"{self.name}: {decision!r} calls every choice a tie, so none would count"

    def test_both_forms_decide_alike(self) -> None:
        """What is decided from weights alone is decided once: harden takes what the soft form says it would.

        Near ties may fall either way. How often both forms decide alike about a sample is measured, by ``verify``, not
        promised: that is the gap.
        """
        made = self.specimen()
        few = tuple(tensor[:5] for tensor in made.inputs)
        with torch.no_grad():
            soft, hard = (made.method.decisions(form, few) for form in (made.soft, made.hard.module))
            others = made.method.decisions(made.soft, tuple(tensor[5:7] for tensor in made.inputs))
        for name, decision in soft.items():
            if not np.array_equal(decision.value, others[name].value):
                continue
            found = agreement(decision, hard[name])
            assert not found.different, (
                f"{self.name}: harden takes {found.different} of {found.total} decisions {name!r} otherwise than the "
                "soft form says, and they do not depend on inputs; take them in one place for both"
            )

    def test_decisions_depend_on_weights_or_inputs(self) -> None:
        """Decisions are read off the form: other weights or other samples lead to other ones somewhere."""
        made = self.specimen()
        others = [_redrawn(made.soft, seed, by, frozen=True) for seed, by in enumerate((1.0, 5.0, 25.0))]
        with torch.no_grad():
            taken = made.method.decisions(made.soft, made.inputs)
            further = [made.method.decisions(other, made.inputs) for other in others]
        for name, decision in taken.items():
            rows = decision.value.shape[:1] == (len(made.inputs[0]),)
            varies = rows and len(np.unique(decision.value, axis=0)) > 1
            varies |= any(not np.array_equal(other[name].value, decision.value) for other in further if name in other)
            assert varies, f"{self.name}: {name!r} is the same whatever the weights and inputs; read it off the form"

    def test_the_soft_form_can_be_copied(self) -> None:
        """A deep copy is a soft form of its own that answers the same."""
        made = self.specimen()
        twin = copy.deepcopy(made.soft)
        with torch.no_grad():
            one = named_outputs(made.soft(*made.inputs), made.task.signature)
            two = named_outputs(twin(*made.inputs), made.task.signature)
        for output, tensor in one.items():
            assert torch.equal(tensor, two[output]), f"{self.name}: output {output!r} of a copy differs"
        again = harden(twin, made.calibration)
        assert _identity(again, made) == _identity(made.hard, made), f"{self.name}: a copy hardens to another form"

    def test_training_changes_the_hard_form(self) -> None:
        """What is trained is what is deployed: the same soft form with other parameters gives another hard form."""
        made = self.specimen()
        other = harden(_redrawn(made.soft, 2), made.calibration)
        assert state_digest(other.module) != state_digest(made.hard.module), (
            f"{self.name}: the trained parameters have no effect on the hard form"
        )

    def test_calibration_comes_from_the_task(self) -> None:
        """The task's calibration split fits the signature the forms were made for."""
        made = self.specimen()
        batch = made.task.samples("calibration").take(slice(0, 2)).inputs
        assert made.task.signature.check_inputs(batch)
        assert len(tensors(batch, made.task.signature)) == len(made.inputs)


def _answers(module: nn.Module, inputs: tuple[Tensor, ...], made: Specimen) -> Arrays:
    with torch.no_grad():
        outputs = named_outputs(module(*inputs), made.task.signature)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _identity(hard: HardForm, made: Specimen) -> tuple[object, ...]:
    """Return all by which a hard form is known: tensors and answers of everything it may be written from, promises."""
    modules = [hard.module, *(item.module for item in hard.lowerings.values() if item.module is not None)]
    known: list[object] = [hard.promise, sorted(hard.lowerings), hard.decoder, dict(hard.decoder_config)]
    for module in modules:
        known.append(state_digest(module))
        few = tuple(tensor[:1] for tensor in made.inputs)
        known.append({name: array.tobytes() for name, array in _answers(module, few, made).items()})
    return tuple(known)


def _redrawn(soft: nn.Module, seed: int, by: float = 1.0, *, frozen: bool = False) -> nn.Module:
    """Return a copy of a soft form whose parameters are moved at random, ``by`` times as far as they vary.

    Args:
        frozen: also those that training does not move, or moves no more.
    """
    twin = copy.deepcopy(soft)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.is_floating_point() and (frozen or parameter.requires_grad):
                spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
                parameter.add_(torch.randn(parameter.shape, generator=random) * by * max(spread, 1.0))
    return twin.eval()
