"""From files to batches: formats, edits, views, sources, batches, and the Lightning data module.

May import what stands below (`inbatch.text`, `inbatch.views`, `inbatch.errors`, …), never `inbatch.models` or `inbatch.losses`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.data.datamodule import EmbeddingDataModule as EmbeddingDataModule
    from inbatch.data.edits.edit import Edit as Edit
    from inbatch.data.edits.repetition import Repetition as Repetition
    from inbatch.data.sources.sources import Source as Source
    from inbatch.data.views.row_view import RowView as RowView
else:
    __getattr__, __all__ = exports(__name__, __file__)
