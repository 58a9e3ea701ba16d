"""Where rows come from: files, folders, the hub, the Python packages of this machine; one memory-mapped table each.

May import `inbatch.data.formats` and `inbatch.data.views`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.data.sources.environment import environment_pairs as environment_pairs
    from inbatch.data.sources.sources import Source as Source
    from inbatch.data.sources.sources import load as load
    from inbatch.data.sources.tables import Table as Table
else:
    __getattr__, __all__ = exports(__name__, __file__)
