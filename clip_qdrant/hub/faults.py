"""What went wrong with the hub, in words that say what to do: licence, token, name, revision, network, disk.

No message holds a token: addresses are masked, and of a token is told only that there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from clip_qdrant.errors import CheckpointError, first_line
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.model_names import HubName
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["explain_fault", "is_of_hub", "is_out_of_reach"]

_LOGIN = "HF_TOKEN in the environment, or `hf auth login`"
_SHOWN_REFS = 12


def explain_fault(error: Exception, name: HubName, list_revisions: Callable[[], list[str]]) -> CheckpointError:
    """The error to raise for one of the hub's library. `list_revisions` is called if the revision is what is wrong.

    Raises DiskFull for a full disk.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    raise_if_full(error, Path(constants.HF_HUB_CACHE))
    endpoint = mask_secrets(constants.ENDPOINT)
    page = f"{endpoint}/{name.repository}"
    causes = list(_chain(error))
    status = next((cause.response.status_code for cause in causes if isinstance(cause, HfHubHTTPError)), None)
    kinds = {kind for cause in causes for kind in type(cause).__mro__}
    if GatedRepoError in kinds:
        token = (
            "the account of the token in use has not been let in, or the token may not read gated models"
            if get_token()
            else f"then give a token of your account ({_LOGIN})"
        )
        return _tell(f"{name} is gated: accept its licence at {page}; {token}")
    if RevisionNotFoundError in kinds:
        return _tell(f"there is no {name}: its revisions are {_show_revisions(list_revisions)}")
    if DisabledRepoError in kinds:
        return _tell(f"{name} has been disabled by its owner or the hub: {page} says more; choose another model")
    if status == 401 and get_token():
        return _tell(
            f"the hub refuses the token in use, or {name} is a model that it may not see or that is not there: check "
            f"the name, and the token ({_LOGIN})"
        )
    if RepositoryNotFoundError in kinds or status in (401, 404):
        private = "is private to others than the owner of the token" if get_token() else f"is private ({_LOGIN})"
        return _tell(f"there is no model {name} at {endpoint}, or it {private}: check OWNER/NAME")
    if status == 403:
        return _tell(f"the hub refuses {name}: the token in use may not read it ({_LOGIN} gives another)")
    if status == 429:
        return _tell(f"the hub answers too many requests from here: try {name} again later, with a token ({_LOGIN})")
    if is_offline():
        return _tell(
            f"{name} has not been downloaded whole, and HF_HUB_OFFLINE keeps it from being: unset that for once, or "
            "name the folder of a copy, hf:FOLDER"
        )
    if is_out_of_reach(error):
        return _tell(
            f"cannot reach the hub at {endpoint} for {name}: {_say(causes[-1])}; check the network and the proxy "
            "(HTTPS_PROXY), or name the folder of a copy, hf:FOLDER"
        )
    if isinstance(error, PermissionError):
        return _tell(f"cannot keep {name} in {constants.HF_HUB_CACHE}: {error.strerror}; HF_HOME names another folder")
    return _tell(f"cannot download {name} from {endpoint}: {_say(error)}")


def is_offline() -> bool:
    """Whether the user keeps the hub's library from using the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_out_of_reach(error: BaseException) -> bool:
    """Whether there was no answer of the hub, or none that it gives on purpose: a cached model may do instead."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    for cause in _chain(error):
        if isinstance(cause, HfHubHTTPError):
            return bool(cause.response.status_code >= 500)
        if isinstance(cause, OfflineModeIsEnabled | ConnectionError | TimeoutError | LocalEntryNotFoundError):
            return True
        if any(kind.__name__ == "TransportError" for kind in type(cause).__mro__):  # of httpx, whichever it is
            return True
    return False


def is_of_hub(error: BaseException) -> bool:
    """Whether an error comes from asking the hub, and not from what it gave."""
    from huggingface_hub.errors import HfHubHTTPError

    return is_out_of_reach(error) or any(isinstance(cause, HfHubHTTPError) for cause in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _tell(message: str) -> CheckpointError:
    return CheckpointError(mask_secrets(message))


def _say(error: BaseException) -> str:
    return first_line(error) or type(error).__name__


def _show_revisions(list_revisions: Callable[[], list[str]]) -> str:
    try:
        names = list_revisions()
    except Exception:  # noqa: BLE001  only the message is poorer for it
        names = []
    more = [] if len(names) <= _SHOWN_REFS else [f"{len(names) - _SHOWN_REFS} more"]
    return ", ".join([*names[:_SHOWN_REFS], *more, "and the hash of any commit, in full"])
