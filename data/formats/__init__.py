"""From the bytes of a file to named columns: compression, encodings, dialects, JSON, parquet, and what column plays which role.

May import no other sub-package of `inbatch.data`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.data.formats.columns import Roles as Roles
    from inbatch.data.formats.files import look as look
    from inbatch.data.formats.files import read as read
else:
    __getattr__, __all__ = exports(__name__, __file__)
