"""Whether the Hugging Face hub can be asked at all, so that a name that is not here fails at once."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies


def is_reachable() -> bool:
    """False in offline mode (`HF_HUB_OFFLINE`) and where the hub's name does not resolve; true behind
    a proxy, which resolves names itself."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
