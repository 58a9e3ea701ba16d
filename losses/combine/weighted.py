"""A sum of objectives: how a paper's method of several terms is composed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, LossOutput, Objective, Term, parts, project
from inbatch.losses.combine.chosen_views import check_names, require_names
from inbatch.losses.refusals import refuse_batch_norm_of_one_row
from inbatch.spelling import suggest
from inbatch.views import TokenBatch, Views


@dataclass(frozen=True)
class Decay:
    """A weight that falls with the optimizer step: ``initial · factor^(step / every)``; step 0 is the first.

    Attributes:
        initial: at the first step.
        factor: what remains after each ``every`` steps.
        every: steps.

    Example:
        >>> weight = Decay(initial=1.0, factor=0.5, every=100)
        >>> [weight(step) for step in (0, 100, 200)]
        [1.0, 0.5, 0.25]
    """

    initial: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 1 or self.every < 1:
            raise UsageError(
                f"expected a decay with factor in (0, 1] and every >= 1; got factor={self.factor} and every={self.every}."
            )

    def __call__(self, step: int) -> float:
        """Return the weight at an optimizer step."""
        return self.initial * self.factor ** (step / self.every)


class WeightedSum(Objective):
    """Add objectives: ``Σ weight · term``.

    Args:
        terms: objectives by name; the name prefixes what each of them logs.
        weights: one number a term, or a `Decay`; a term that is not named has weight 1. A term of weight 0 is left out as if it had
            not been given: it is neither computed nor trained, so that 0 may be a point of a sweep.
        projector: a module of training only, applied to all views of this rank's rows in one call before the terms.
        views: by term, the names of the views that it sees: ``anchor``, ``positive``, ``negative_1``, …, and those of other texts; the first is its anchor, the
            second its positive, the others its hard negatives. A term that is not named sees all.

    Raises:
        UsageError: if there are no terms with a weight other than 0, or one has a name that no module may have, or a weight or views
            name no term, or a projector is given to a term that must have its own, or views are fewer than two; before the first
            step, if the rows do not have them.

    Example:
        >>> from inbatch.losses import EnergyHinge, InfoNCE
        >>> method = WeightedSum({"pairs": InfoNCE(), "hard": EnergyHinge()}, {"hard": 10.0}, views={"pairs": ["anchor", "positive"]})
        >>> sorted(method.inner())
        ['hard', 'pairs']
    """

    def __init__(
        self,
        terms: dict[str, Objective],
        weights: dict[str, float | Decay] | None = None,
        projector: nn.Module | None = None,
        views: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__()
        weights, views = weights or {}, views or {}
        for setting, given in (("weights", weights), ("views", views)):
            for name in set(given) - set(terms):
                raise UsageError(
                    f"expected {setting} of the terms {', '.join(terms)}; got one of {name}{suggest(name, terms) or '.'} Set "
                    f"objective.{setting}."
                )
        for name in terms:
            # Parameters are kept under the names of their terms, by a module that has methods.
            if not name or "." in name or hasattr(nn.ModuleDict, name):
                raise UsageError(
                    f"expected names of terms without a point that are no method of torch's ModuleDict; got {name!r}. Rename it in "
                    "objective.terms."
                )
        for name, chosen in views.items():
            check_names(chosen, f"objective.views.{name}")
        self.weights: dict[str, float | Decay] = {
            name: weights.get(name, 1.0) for name in terms if weights.get(name, 1.0) != 0
        }
        if not self.weights:
            raise UsageError(
                f"expected a term with a weight other than 0; got {', '.join(terms) or 'no terms'}. Set objective.terms and "
                "objective.weights."
            )
        whole = [name for name in self.weights if not all(part.takes_projected for part in parts(terms[name]))]
        if projector is not None and whole:
            raise UsageError(
                f"the term {whole[0]} projects by itself what it makes. Give the projector to each of the terms, and set "
                "objective.projector to null."
            )
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})
        self.projector = projector
        self.views = {name: tuple(chosen) for name, chosen in views.items() if name in self.weights}

    def inner(self) -> dict[str, Term]:
        """See `Objective.inner`."""
        return {
            name: Term(term, self.weights[name], self.views.get(name))  # type: ignore[arg-type]
            for name, term in self.terms.items()
        }

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        refuse_batch_norm_of_one_row(self.projector, batch)
        for name, chosen in self.views.items():
            require_names(chosen, batch, f"objective.views.{name}")

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Project once, then add the terms' losses; each term logs its own loss and numbers under its name."""
        z = project(z, self.projector)
        total: Tensor | None = None
        logs: dict[str, Tensor | float] = {}
        for name, term in self.terms.items():
            weight: Any = self.weights[name]
            if isinstance(weight, Decay):
                weight = logs[f"{name}/weight"] = weight(self.step)
            seen = self.views.get(name)
            own = (z, tokens) if seen is None else (z.chosen(seen), tokens.chosen(seen))
            output: LossOutput = term(*own, encoder)
            total = weight * output.loss if total is None else total + weight * output.loss
            logs[f"{name}/loss"] = output.loss.detach()
            logs |= {f"{name}/{tag}": value for tag, value in output.logs.items()}
        assert total is not None, "there is at least one term"
        return LossOutput(total, logs)
