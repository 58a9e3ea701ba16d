"""The recipes of papers, and the commands that evaluate, compare and measure.

May import everything else; nothing but `inbatch.cli` imports it.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.experiments.evaluation.retrieval import Retrieval as Retrieval
    from inbatch.experiments.evaluation.sts import Sts as Sts
else:
    __getattr__, __all__ = exports(__name__, __file__)
