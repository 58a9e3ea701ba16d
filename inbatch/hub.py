"""What the hub's libraries do where there is no network: look into their caches, at once and without a word."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Within, act as with ``HF_HUB_OFFLINE=1`` where no connection to the hub can be made.

    Else each file of a data set is asked for six times in 23 seconds, and each time says so. A hub that is there and slow, or behind
    a proxy, is left to the libraries and their retries.

    Example:
        >>> from unittest.mock import patch
        >>> from huggingface_hub import constants
        >>> with patch.object(constants, "HF_HUB_OFFLINE", False), patch("inbatch.hub._reachable", return_value=False):
        ...     with offline_if_unreachable():
        ...         print(constants.HF_HUB_OFFLINE)
        ...     print(constants.HF_HUB_OFFLINE)
        True
        False
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    if {"http", "https", "all"} & getproxies().keys():
        return True
    address = urlsplit(endpoint)
    place = (address.hostname or "", address.port or (80 if address.scheme == "http" else 443))
    for wait in (1, 0):  # a resolver may fail once
        try:
            socket.create_connection(place, timeout=5).close()
        except TimeoutError:
            return True
        except OSError:
            time.sleep(wait)
        else:
            return True
    return False
