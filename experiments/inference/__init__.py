"""The verbs that use a model: `inbatch encode` and `inbatch search`.

May import `inbatch.experiments.evaluation` for its corpora.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.experiments.inference.search import nearest as nearest
    from inbatch.experiments.inference.search import search as search
else:
    __getattr__, __all__ = exports(__name__, __file__)
