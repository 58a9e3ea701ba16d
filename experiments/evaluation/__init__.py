"""Evaluators, which take an encoder and return numbers, and the verb `inbatch evaluate`.

May import `inbatch.experiments.command` and `output`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.experiments.evaluation.retrieval import Retrieval as Retrieval
    from inbatch.experiments.evaluation.sts import Sts as Sts
else:
    __getattr__, __all__ = exports(__name__, __file__)
