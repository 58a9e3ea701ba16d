"""From rows to the views of a batch: which text plays which role, and the ids that tell equal texts apart from negatives.

May import `inbatch.data.sources`, `formats` and `edits`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.data.views.rows import ViewDataset as ViewDataset
    from inbatch.data.views.rows import make_views as make_views
    from inbatch.data.views.rows import position_ids as position_ids
    from inbatch.data.views.rows import text_ids as text_ids
else:
    __getattr__, __all__ = exports(__name__, __file__)
