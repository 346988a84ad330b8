"""The Hugging Face hub: whether it can be asked at all, so that a name that is not here fails at once; and
pushing a folder, which nothing but `autopeft train --push` does."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from autopeft.errors import AutopeftError, SpecError


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


def check_push(name: str) -> None:
    """Raise SpecError for what is no repository's name, AutopeftError where the hub cannot be reached."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        raise SpecError(f"a repository of the hub is USER/NAME, it is {name!r}")
    if not is_reachable():
        raise AutopeftError(f"nothing can be pushed to {name}: the Hugging Face hub cannot be reached")


def push(folder: Path, name: str) -> str:
    """Put the files of `folder` into the repository `name`, which is made, private, where there is none; its address.

    AutopeftError where the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        url = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=str(folder), commit_message=f"Adapter trained by autopeft ({folder.name})")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AutopeftError(f"{folder} was not pushed to {name}: {reason}; `hf auth login` gives the right to") from error
    return str(url)
