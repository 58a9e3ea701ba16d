"""Scores of pairs of texts by a reference model, computed once and kept by what the texts are, not by where they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inbatch.errors import MissingError, UsageError
from inbatch.files import replace_file
from inbatch.views import Views

FORMAT = 1
# An odd number with well mixed bits, 2^64 over the golden ratio, as int64: a pair's key is uniform if its ids are.
_MIX = 0x9E3779B97F4A7C15 - (1 << 64)


class ReferenceScores:
    """A table from (anchor, text) to a float32 score; rows may be shuffled, filtered or repeated after it was made.

    Args:
        keys: (n,) int64 of `pair_keys`, any order.
        scores: (n,) float32.
        facts: how they were made: what they are not comparable without.
        path: where they come from, for messages.

    Example:
        >>> question, answer = torch.tensor([1]), torch.tensor([2])
        >>> ReferenceScores(pair_keys(question, answer), torch.tensor([-7.5]), {"precision": "32-true"}, "").save("scores.safetensors")
        >>> scores = ReferenceScores.load("scores.safetensors")
        >>> scores.of(Views(question, answer)), scores.facts
        (tensor([[-7.5000]]), {'precision': '32-true'})
    """

    def __init__(self, keys: Tensor, scores: Tensor, facts: dict[str, Any], path: str) -> None:
        self.keys, order = torch.sort(keys)
        self.scores = scores[order]
        self.facts = facts
        self.path = path

    def __len__(self) -> int:
        return len(self.keys)

    @staticmethod
    def load(path: str | Path) -> ReferenceScores:
        """Read a file of scores.

        Raises:
            MissingError: if it is not there.
            UsageError: if it is something else.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise MissingError(
                f"expected reference scores in {Path(path).absolute()}; there is no such file. Make them with the arguments "
                "of this run: inbatch synthesize reference-scores --config …"
            )
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get("inbatch", "{}"))
                keys, scores = file.get_tensor("keys"), file.get_tensor("scores")
        except (SafetensorError, ValueError) as error:
            raise UsageError(f"expected reference scores in {path}; {str(error).splitlines()[0][:200]}") from error
        if facts.pop("format", None) != FORMAT:
            raise UsageError(f"expected reference scores of format {FORMAT} in {path}; make them again.")
        return ReferenceScores(keys, scores, facts, str(path))

    def save(self, path: str | Path) -> None:
        """Write them, whole or not at all."""
        from safetensors.torch import save

        facts = json.dumps({"format": FORMAT, **self.facts}, ensure_ascii=False)
        with replace_file(path) as file:
            file.write(save({"keys": self.keys, "scores": self.scores}, metadata={"inbatch": facts}))

    def require_made_with(self, wanted: dict[str, str]) -> None:
        """Refuse scores that were made with another model or other prompts.

        Raises:
            UsageError: if so.
        """
        for name, value in wanted.items():
            if self.facts.get(name) != value:
                # `auto` may have been another precision where the scores were made.
                same = f"Set --trainer.precision={self.facts.get(name)}, or name" if name == "precision" else "Name"
                raise UsageError(
                    f"expected reference scores made with {name} = {value!r}; those in {self.path} were made with "
                    f"{self.facts.get(name)!r}. {same} another file in objective.reference, and make it with the arguments of this run: "
                    "inbatch synthesize reference-scores --config …"
                )

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Look keys up, (n,) -> which are there, (n,) bool, and their scores, (n,) float32 (NaN where there is none)."""
        keys = keys.cpu()
        if not len(self):
            return torch.zeros(keys.shape, dtype=torch.bool), torch.full(keys.shape, torch.nan)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self) - 1)
        there = self.keys[place] == keys
        return there, self.scores[place].masked_fill(~there, torch.nan)

    def of(self, ids: Views[Tensor], instructions: Tensor | None = None) -> Tensor:
        """Return the scores of a batch's positives and negatives, each with its anchor and (b,) instruction; (b, 1 + k) on the CPU.

        Raises:
            UsageError: if a score is missing.
        """
        keys = torch.stack([pair_keys(ids.anchor, other, instructions) for other in (ids.positive, *ids.negatives)], 1)
        there, scores = self.find(keys)
        self._require(there)
        return scores

    def require(self, pairs: Tensor) -> None:
        """Refuse pairs, (n, 3) int64 ids of anchor, text and instruction, that have no score.

        Raises:
            UsageError: if there are any.
        """
        there, _ = self.find(pair_keys(*pairs.unbind(1)))
        self._require(there)

    def _require(self, there: Tensor) -> None:
        missing = int((~there).sum())
        if missing:
            raise UsageError(
                f"expected a reference score for every pair of the data; {missing:,} of {there.numel():,} have none in {self.path}. Add "
                "them with the arguments of this run: inbatch synthesize reference-scores --config …; they are kept by text, so "
                "data.ids must be text."
            )


def pair_keys(anchor: Tensor, other: Tensor, instruction: Tensor | None = None) -> Tensor:
    """Join the ids of an anchor, of another text and of an instruction (0 without) to one key, (n,) int64; order matters.

    Example:
        >>> question, answer, instruction = torch.tensor([1]), torch.tensor([2]), torch.tensor([3])
        >>> key = pair_keys(question, answer)
        >>> [bool(key == other) for other in (pair_keys(answer, question), pair_keys(question, answer, instruction))]
        [False, False]
        >>> bool(key == pair_keys(question, answer, torch.tensor([0])))
        True
    """
    key = anchor * _MIX + other
    return key if instruction is None else key + instruction * _MIX * _MIX
