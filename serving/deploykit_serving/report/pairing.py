"""Which variants of two bundles may be compared."""

from __future__ import annotations

from deploykit.bundle import Bundle
from deploykit.errors import ConfigError
from deploykit.signature import Signature


def check_signatures(first: Bundle, second: Bundle) -> None:
    """Make sure that the same requests fit both bundles.

    Raises:
        ConfigError: they do not; names what differs.
    """
    for part in ("inputs", "outputs"):
        mine, theirs = _texts(first.manifest.signature, part), _texts(second.manifest.signature, part)
        if mine != theirs:
            raise ConfigError(
                f"{first.path} and {second.path} do not answer the same requests, so their times say nothing about "
                f"each other: {part} of A are {', '.join(mine)}; of B {', '.join(theirs)}. Compare bundles of one task"
            )


def paired_variants(first: Bundle, second: Bundle, wanted: str = "") -> dict[str, str]:
    """Return which variant of A is compared with which of B.

    Args:
        wanted: ``NAME`` for one in both, ``NAME_IN_A=NAME_IN_B`` for two; by default all of the same name.

    Raises:
        ConfigError: there is no such variant, or the two have none in common.
    """
    names = [{entry.name for entry in bundle.manifest.variants} for bundle in (first, second)]
    if wanted:
        mine, _, theirs = wanted.partition("=")
        theirs = theirs or mine
        for name, bundle, there in ((mine, first, names[0]), (theirs, second, names[1])):
            if name not in there:
                raise ConfigError(
                    f"{bundle.path} has no variant {name!r}; it has {', '.join(sorted(there))}: --variant NAME, or "
                    "--variant NAME_IN_A=NAME_IN_B"
                )
        return {mine: theirs}
    shared = [entry.name for entry in first.manifest.variants if entry.name in names[1]]
    if not shared:
        raise ConfigError(
            f"no variant has the same name in both: {first.path} has {', '.join(sorted(names[0]))}; {second.path} has "
            f"{', '.join(sorted(names[1]))}; say which: --variant NAME_IN_A=NAME_IN_B"
        )
    return {name: name for name in shared}


def _texts(signature: Signature, part: str) -> list[str]:
    specs = signature.inputs if part == "inputs" else signature.outputs
    return [spec.text() for spec in specs]
