"""From rows to the views of a batch: which text plays which role, and the ids that tell equal texts apart from negatives.

May import `inbatch.data.formats` and `inbatch.data.edits`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.data.views.ids import position_ids as position_ids
    from inbatch.data.views.ids import text_ids as text_ids
    from inbatch.data.views.labels import label_id as label_id
    from inbatch.data.views.named import Auto as Auto
    from inbatch.data.views.named import Pair as Pair
    from inbatch.data.views.named import Same as Same
    from inbatch.data.views.named import Scored as Scored
    from inbatch.data.views.named import Triplet as Triplet
    from inbatch.data.views.row_view import RowView as RowView
    from inbatch.data.views.rows import ViewDataset as ViewDataset
else:
    __getattr__, __all__ = exports(__name__, __file__)
