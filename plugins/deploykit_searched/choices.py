"""A choice among candidate operators, relaxed to a mixture of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deploykit.errors import ContractError
from deploykit_relaxations.categorical import hard_choice, tempered_softmax
from deploykit_searched.operators import Nothing

_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class Preference:
    """Which candidate a choice would take.

    Attributes:
        index: its place among the candidates.
        log_odds: ``log(w / (1 - w))`` of what it counts in the mixture, w; infinity where it is all there is. Orders
            as w does and, unlike w, goes on growing where a low temperature has pressed w against 1.
        margin: logarithm of how many times more it counts than the next one; infinity where there is no other.
    """

    index: int
    log_odds: float
    margin: float


class Choice(nn.Module):
    """Runs all candidates and answers ``sum_k w_k o_k(x)`` with ``w = softmax(alpha / temperature)``.

    Put it into your own model where an operator is to be searched; ``searched.darts`` finds it there. Once settled,
    only the candidate of the largest alpha runs, with weight 1.

    Shapes:
        all candidates take the same inputs and answer in the same shape.

    Args:
        candidates: by name; at least one that is not :class:`~deploykit_searched.operators.Nothing`. A ``Nothing``
            takes part in the softmax and adds nothing; it is never chosen.

    Attributes:
        alpha: (candidates,), starts at ``1e-3 * N(0, 1)``.
        temperature: above 0; a buffer, saved with the weights.
        settled: whether the search is over; a buffer.

    Raises:
        ContractError: nothing to choose from, a choice within a choice, or candidates answer in different shapes.

    Source: Liu et al. 2019, section 2.2; the temperature is ours (the paper's is 1).
    """

    deploykit_relaxation = True
    temperature: Tensor
    settled: Tensor

    def __init__(self, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if all(isinstance(candidate, Nothing) for candidate in candidates.values()):
            raise ContractError(f"a Choice needs a candidate that computes something, got {sorted(candidates)}")
        for name, candidate in candidates.items():
            if any(isinstance(part, Choice) for part in candidate.modules()):
                raise ContractError(
                    f"candidate {name!r} of a Choice holds a Choice itself; offer its parts side by side"
                )
        self.candidates = nn.ModuleDict(dict(candidates))
        self.alpha = nn.Parameter(_SPREAD * torch.randn(len(candidates)))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("settled", torch.zeros((), dtype=torch.bool))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates in order."""
        return tuple(self.candidates)

    def weights(self) -> Tensor:
        """Return what each candidate counts, (candidates,); they are positive and sum to 1."""
        return tempered_softmax(self.alpha, self.temperature)

    def preference(self) -> Preference:
        """Return the candidate of the largest weight, never a ``Nothing``; of a tie the first."""
        allowed = [index for index, item in enumerate(self.candidates.values()) if not isinstance(item, Nothing)]
        with torch.no_grad():
            best = allowed[int(hard_choice(self.alpha[allowed]))]
            # Logarithms of weights, the best one's being 0. No softmax: it rounds to 1 for quite different alphas.
            logs = (self.alpha.double() - self.alpha[best].double()) / self.temperature.double()
            rest = [index for index in range(len(logs)) if index != best]
            # Sorted, so that edges that tie do so whatever the order of their candidates.
            log_odds = -torch.logsumexp(logs[rest].sort().values, 0).item()
        others = [logs[index].item() for index in allowed if index != best]
        return Preference(best, log_odds, 0.0 - max(others) if others else math.inf)

    def chosen(self) -> str:
        """Return the name of the preferred candidate."""
        return self.names[self.preference().index]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Mix all candidates, or run the chosen one once settled."""
        if self.settled:
            answer: Tensor = self.candidates[self.chosen()](*inputs)
            return answer
        return mixture(self.candidates, self.weights(), *inputs)


def mixture(candidates: nn.ModuleDict, weights: Tensor, *inputs: Tensor) -> Tensor:
    """Return the weighted sum of the candidates' answers.

    Raises:
        ContractError: they differ in shape.
    """
    total: Tensor | None = None
    for (name, candidate), weight in zip(candidates.items(), weights, strict=True):
        if isinstance(candidate, Nothing):
            continue
        answer = candidate(*inputs)
        if total is not None and answer.shape != total.shape:
            raise ContractError(
                f"candidate {name!r} of a Choice answers {list(answer.shape)}, those before it {list(total.shape)}; "
                "all must answer in the same shape"
            )
        total = answer * weight if total is None else total + answer * weight
    assert total is not None
    return total


class AllCandidates(nn.Module):
    """A choice as it would run without a derivation: every candidate evaluated, the weights constants."""

    weights: Tensor

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        kept = [index for index, item in enumerate(choice.candidates.values()) if not isinstance(item, Nothing)]
        self.candidates = nn.ModuleDict({choice.names[index]: choice.candidates[choice.names[index]] for index in kept})
        self.register_buffer("weights", choice.weights().detach()[kept])

    def forward(self, *inputs: Tensor) -> Tensor:
        """Mix all candidates."""
        return mixture(self.candidates, self.weights, *inputs)
