"""Its hard form still adds the noise of training, from a source that torch does not know."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from deploykit import MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Noisy(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x) + float(np.random.default_rng().random())


class Drawing(Honest):
    hard = Noisy


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.drawing", "is not deterministic", f"{__name__}:Drawing", tasks=("cloud",))
