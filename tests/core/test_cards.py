"""Cards refuse malformed names and targets at once, in the author's own traceback."""

from __future__ import annotations

import pytest

from deploykit import DecoderCard, MethodCard, RuntimeCard, TargetCard, TaskCard


@pytest.mark.parametrize(
    "name", ["sigmoid", "Steps.sigmoid", "steps.", ".sigmoid", "steps.sig moid", "steps.a.b", "", "1a.b", "a.1"]
)
def test_a_method_name_reads_family_dot_method(name: str) -> None:
    with pytest.raises(ValueError, match=r"method name must read 'family.method' in lower case, got"):
        MethodCard(name, "s", "package.module:Class")


@pytest.mark.parametrize("target", ["package.module", "package.module:", ":Class", "a:b:c", "a:b.c", "../a:B", "a b:C"])
def test_an_implementation_reads_module_colon_class(target: str) -> None:
    with pytest.raises(ValueError, match=r"implementation must read 'package.module:Class', got"):
        MethodCard("steps.sigmoid", "s", target)


@pytest.mark.parametrize(
    ("card", "kind"), [(TaskCard, "task"), (DecoderCard, "decoder"), (TargetCard, "target"), (RuntimeCard, "runtime")]
)
@pytest.mark.parametrize("name", ["Digits", "a.b", "", "-x", "1x", "a b"])
def test_tasks_and_decoders_have_plain_names(card: type[TaskCard] | type[DecoderCard], kind: str, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{kind} name must be lower case letters, digits, '-' or '_', beginning with a letter, got"
    ):
        card(name, "s", "m:A")
    with pytest.raises(ValueError, match=rf"{kind} 'fine': implementation must read"):
        card("fine", "s", "m")


def test_the_family_is_the_part_before_the_dot() -> None:
    assert MethodCard("steps.sigmoid-2", "s", "m:A").family == "steps"


def test_a_methods_tasks_are_a_tuple() -> None:
    with pytest.raises(ValueError, match=r"method 'a.one': tasks must be a tuple of names such as .*, got 'digits'"):
        MethodCard("a.one", "s", "m:A", tasks="digits")  # type: ignore[arg-type]
