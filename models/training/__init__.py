"""What training needs besides the encoder: optimizers, schedules, frozen weights, casting, checks of the data.

May import the top modules of `inbatch.models`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.models.training.adamw_uncorrected_eps import AdamWUncorrectedEps as AdamWUncorrectedEps
    from inbatch.models.training.data_checks import check_data as check_data
    from inbatch.models.training.dev import Dev as Dev
else:
    __getattr__, __all__ = exports(__name__, __file__)
