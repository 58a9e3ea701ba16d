"""Changes of texts that leave their meaning: a class each, drawn from the seed and the position alone.

May import no other sub-package of `inbatch.data`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.data.edits.edit import Edit as Edit
    from inbatch.data.edits.repetition import Repetition as Repetition
else:
    __getattr__, __all__ = exports(__name__, __file__)
