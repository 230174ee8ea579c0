"""The promises of a method's two forms, as tests."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch

from deploykit.hardening import state_digest
from deploykit.lifecycle import build, harden
from deploykit.outputs import named_outputs, tensors
from deploykit.testing.specimen import Specimen, loss_on, specimen


class MethodContract:
    """Subclass it in a test file and set ``name``.

    Attributes:
        name: the method's registered name.
        task: the task to test on; the first of the method's card by default.
        config: settings that keep the tests quick.
        oracle_samples: how many samples the slow oracle is asked for.
    """

    name: ClassVar[str]
    task: ClassVar[str] = ""
    config: ClassVar[dict[str, Any]] = {}
    oracle_samples: ClassVar[int] = 4

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
        missed = {path for path, parameter in soft.named_parameters() if parameter.requires_grad} - reached
        assert not missed, f"{self.name}: no gradient ever reaches {sorted(missed)}"

    def test_hardening_twice_gives_the_same_form(self) -> None:
        """Harden is a function of the soft form: no state, no chance."""
        made = self.specimen()
        again = harden(made.soft, made.calibration)
        assert state_digest(again.module) == state_digest(made.hard.module), f"{self.name}: harden is not repeatable"

    def test_state_survives_a_round_trip(self) -> None:
        """Weights and buffers are all there is: a fresh soft form with the same state hardens to the same form."""
        made = self.specimen()
        torch.manual_seed(1)
        fresh = build(made.method, made.task)
        fresh.load_state_dict(made.soft.state_dict())
        again = harden(fresh.eval(), made.calibration)
        assert state_digest(again.module) == state_digest(made.hard.module), (
            f"{self.name}: something that decides the hard form is not in the state_dict; register it as a buffer"
        )

    def test_hard_form_equals_its_oracle(self) -> None:
        """The slow reference, computed from the soft form's parameters, agrees within the promised tolerance."""
        made = self.specimen()
        few = tuple(tensor[: self.oracle_samples] for tensor in made.inputs)
        wanted = made.method.oracle(made.soft, few)
        with torch.no_grad():
            got = named_outputs(made.hard.module(*few), made.task.signature)
        tolerance = made.hard.promise.tolerance
        for output, tensor in got.items():
            np.testing.assert_allclose(
                tensor.numpy(), wanted[output], rtol=tolerance.relative, atol=tolerance.absolute,
                err_msg=f"{self.name}: output {output!r} of the hard form differs from its oracle",
            )  # fmt: skip

    def test_samples_do_not_influence_each_other(self) -> None:
        """A sample gets the same answer alone and in a batch."""
        made = self.specimen()
        tolerance = made.hard.promise.tolerance
        with torch.no_grad():
            together = named_outputs(made.hard.module(*made.inputs), made.task.signature)
            for index in (0, 5):
                alone = named_outputs(
                    made.hard.module(*(tensor[index : index + 1] for tensor in made.inputs)), made.task.signature
                )
                for output, tensor in alone.items():
                    np.testing.assert_allclose(
                        tensor[0].numpy(), together[output][index].numpy(),
                        rtol=tolerance.relative, atol=tolerance.absolute,
                        err_msg=f"{self.name}: output {output!r} of sample {index} depends on the other samples",
                    )  # fmt: skip

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

    def test_the_soft_form_can_be_copied(self) -> None:
        """A deep copy is a soft form of its own that answers the same."""
        made = self.specimen()
        twin = copy.deepcopy(made.soft)
        with torch.no_grad():
            one = named_outputs(made.soft(*made.inputs), made.task.signature)
            two = named_outputs(twin(*made.inputs), made.task.signature)
        for output, tensor in one.items():
            assert torch.equal(tensor, two[output]), f"{self.name}: output {output!r} of a copy differs"
        assert state_digest(harden(twin, made.calibration).module) == state_digest(made.hard.module)

    def test_training_changes_the_hard_form(self) -> None:
        """What is trained is what is deployed: other weights give another hard form."""
        made = self.specimen()
        torch.manual_seed(2)
        other = harden(build(made.method, made.task).eval(), made.calibration)
        assert state_digest(other.module) != state_digest(made.hard.module), f"{self.name}: weights have no effect"

    def test_calibration_comes_from_the_task(self) -> None:
        """The task's calibration split fits the signature the forms were made for."""
        made = self.specimen()
        batch = made.task.samples("calibration").take(slice(0, 2)).inputs
        assert made.task.signature.check_inputs(batch)
        assert len(tensors(batch, made.task.signature)) == len(made.inputs)
