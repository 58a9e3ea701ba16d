"""The encoder that checkpoints are judged by while training, where a release judges by another one than it tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inbatch.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from inbatch.models.encoder import Encoder


@dataclass(frozen=True)
class Dev:
    """How the encoder at dev differs from the one at test; as it stands, in nothing.

    Attributes:
        projector: the objective's projector is the encoder's head.
        template_bias: the template's bias is subtracted.
        training_tokens: texts are tokenized as in training: no full stop is added, and a template is filled in pieces unless training
            fills it as one string.
        max_length: tokens kept of each text; None keeps as many test.

    Example:
        >>> Dev(False, False, False, 64).max_length
        64
    """

    projector: bool = False
    template_bias: bool = False
    training_tokens: bool = False
    max_length: int | None = None

    @property
    def differs(self) -> bool:
        """Whether anything does, so that a score at dev is none of the export."""
        return self != Dev()

    def check(self, encoder: Encoder, projector: nn.Module | None) -> None:
        """Refuse what encoder or objective do not have.

        Args:
            encoder: of the run.
            projector: the objective's, if it has one.

        Raises:
            UsageError: if there is no projector to take or a head already, no bias to subtract, or a length does not fit.
        """
        if self.projector and (encoder.head is not None or projector is None):
            raise UsageError(
                "projector_at_dev expects an objective with a projector and an encoder without a head. Set model.projector_at_dev to "
                "false, or objective.projector."
            )
        if self.template_bias and encoder.correction is None:
            raise UsageError(
                "template_bias_at_dev expects an encoder with a correction; it has none. Set encoder.correction to "
                "inbatch.models.heads.template_bias.TemplateBias."
            )
        if self.max_length is not None:
            try:
                encoder.fitting(self.max_length)
            except UsageError as error:
                raise UsageError(f"{error}. Set model.max_length_at_dev.") from None

    @contextmanager
    def encoder(self, encoder: Encoder, projector: nn.Module | None) -> Iterator[Encoder]:
        """Give the encoder as it is at dev, and make it what it was afterwards; arguments as in `check`."""
        changes: list[tuple[Any, str, Any]] = []
        if self.projector:
            changes.append((encoder, "head", projector))
        if self.template_bias:
            changes.append((encoder.correction, "template_bias_at_test", True))
        if self.training_tokens:
            changes += [(encoder, "period_at_test", False), (encoder, "one_string_at_test", False)]
        if self.max_length is not None:
            changes.append((encoder, "max_length", self.max_length))
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
        for owner, name, value in changes:
            setattr(owner, name, value)
        try:
            yield encoder
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)
