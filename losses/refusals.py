"""What several objectives refuse: encoders and batches that do not fit."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, Objective
from inbatch.text.templates import learned_ids


def check_width(objective: Objective, dim: int) -> None:
    """Refuse a projector that does not take the encoder's embeddings.

    Raises:
        UsageError: if the outermost projector takes vectors of another size.

    Example:
        >>> from inbatch.losses import InfoNCE
        >>> check_width(InfoNCE(projector=nn.Linear(768, 128)), 384)
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a projector with in_features=384, the embedding's size; got 768. Set objective.projector's
        in_features.
    """
    if objective.projector is None:
        for term in objective.inner().values():
            check_width(term.objective, dim)
        return
    takes = getattr(
        objective.projector, "in_features", dim
    )  # any module may be a projector, and few say what they take
    if takes != dim:
        raise UsageError(
            f"expected a projector with in_features={dim}, the embedding's size; got {takes}. Set objective.projector's in_features."
        )


def require_positive(value: float, setting: str) -> None:
    """Refuse a number that is not finite or not above 0.

    Args:
        value: that was given.
        setting: that takes it, for the message; it is called by the last part of this.

    Raises:
        UsageError: if so.

    Example:
        >>> require_positive(0.0, "objective.temperature")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a finite temperature > 0; got 0.0. Set objective.temperature.
    """
    if not 0 < value < math.inf:
        raise UsageError(f"expected a finite {setting.rpartition('.')[2]} > 0; got {value}. Set {setting}.")


def refuse_batch_norm_of_one_row(projector: nn.Module | None, batch: BatchFacts) -> None:
    """Refuse a batch norm where a rank has one row: its views would be all that statistics are made of.

    Raises:
        UsageError: if so.

    Example:
        >>> refuse_batch_norm_of_one_row(nn.BatchNorm1d(128), BatchFacts(rows=1, negatives=0, scored=False))
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected at least 2 rows a rank for the projector's BatchNorm1d; got 1. Raise data.batch_size, use
        fewer ranks, or choose a projector without batch norm.
    """
    norms = (
        [] if projector is None else [m for m in projector.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    )
    if norms and batch.rows < 2:
        raise UsageError(
            f"expected at least 2 rows a rank for the projector's {type(norms[0]).__name__}; got {batch.rows}. Raise "
            "data.batch_size, use fewer ranks, or choose a projector without batch norm."
        )


def require_negatives(batch: BatchFacts, objective: Objective) -> None:
    """Refuse data without hard negatives.

    Raises:
        UsageError: if a source has none.

    Example:
        >>> from inbatch.losses import OwnNegatives
        >>> require_negatives(BatchFacts(rows=64, negatives=0, scored=False), OwnNegatives())
        Traceback (most recent call last):
        inbatch.errors.UsageError: OwnNegatives expects a hard negative in every row; the data has none. Give data.sources a third column
        (columns: {anchor: NAME, positive: NAME, negatives: [NAME]}), or choose an objective without one.
    """
    if batch.negatives < 1:
        raise UsageError(
            f"{type(objective).__name__} expects a hard negative in every row; the data has none. Give data.sources a third "
            "column (columns: {anchor: NAME, positive: NAME, negatives: [NAME]}), or choose an objective without one."
        )


def refuse_scores(scored: bool, objective: Objective) -> None:
    """Refuse scored pairs, of which one with score 0 would be trained as a positive.

    Raises:
        UsageError: if rows of some source have scores.

    Example:
        >>> from inbatch.losses import EnergyHinge
        >>> refuse_scores(True, EnergyHinge())
        Traceback (most recent call last):
        inbatch.errors.UsageError: EnergyHinge takes every pair as a positive one, but a column of the source was read as scores. Keep the
        rows that are positives, then set view: pair and columns: {anchor: NAME, positive: NAME} on the source; or take InfoNCE with
        positive_score, from which on a row is a positive.
    """
    if scored:
        raise UsageError(
            f"{type(objective).__name__} takes every pair as a positive one, but a column of the source was read as scores. Keep the "
            "rows that are positives, then set view: pair and columns: {anchor: NAME, positive: NAME} on the source; or take InfoNCE "
            "with positive_score, from which on a row is a positive."
        )


def refuse_several_scores(score: Tensor | int | None, objective: Objective) -> None:
    """Refuse a score for each candidate where a row has one.

    Args:
        score: of a batch, or the most scores of one row.
        objective: for the message.

    Raises:
        UsageError: if scores are (b, 1+k), or a row has several.

    Example:
        >>> import torch
        >>> from inbatch.losses import CoSENT
        >>> refuse_several_scores(torch.zeros(64, 3), CoSENT())
        Traceback (most recent call last):
        inbatch.errors.UsageError: CoSENT expects one score a row, that of anchor and positive; got 3. Set columns.score to one column of
        numbers on the source.
    """
    several = score > 1 if isinstance(score, int) else score is not None and score.ndim > 1
    if several:
        count = score.shape[1] if isinstance(score, Tensor) else score
        raise UsageError(
            f"{type(objective).__name__} expects one score a row, that of anchor and positive; got {count}. Set columns.score to "
            "one column of numbers on the source."
        )


def require_same_tokens(side: Any, encoder: Any, setting: str, texts_only: bool = False) -> None:
    """Refuse a side network that reads the encoder's tokens as other words.

    Args:
        side: a network with a ``tokenizer``.
        encoder: the live encoder.
        setting: what names the side network in a configuration, for the message.
        texts_only: it reads texts out of their templates, and so never the encoder's learned tokens.

    Raises:
        UsageError: if the vocabularies differ.

    Example:
        >>> from inbatch.models import TinyRandom
        >>> require_same_tokens(TinyRandom("roberta"), TinyRandom("bert"), "objective.guide")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected objective.guide to read the encoder's tokens; its vocabulary has 261 entries and the encoder's
        261, of which 5 mean something else there. Set objective.guide to a network of the encoder's tokenizer.
    """
    theirs, ours = (x.tokenizer.get_vocab() for x in (side, encoder))
    learned = set(learned_ids(encoder.tokenizer)) if texts_only else set()
    ours = {token: index for token, index in ours.items() if index not in learned}
    if theirs != ours:
        differing = sum(theirs.get(token) != index for token, index in ours.items())
        raise UsageError(
            f"expected {setting} to read the encoder's tokens; its vocabulary has {len(theirs)} entries and the encoder's "
            f"{len(ours)}, of which {differing} mean something else there. Set {setting} to a network of the encoder's tokenizer."
        )
