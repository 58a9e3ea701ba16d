"""The encoder as a folder: written, described in a model card, loaded again, and the layout of sentence-transformers.

May import every other sub-package of `inbatch.models` but `training`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.models.export.exported import ExportedDense as ExportedDense
    from inbatch.models.export.exported import ExportedLatentAttention as ExportedLatentAttention
    from inbatch.models.export.load import folder_kind as folder_kind
    from inbatch.models.export.load import load_encoder as load_encoder
    from inbatch.models.export.write import Export as Export
    from inbatch.models.export.write import export as export
else:
    __getattr__, __all__ = exports(__name__, __file__)
