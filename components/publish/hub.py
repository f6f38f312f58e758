"""A hub's upload calls, through huggingface_hub: who one is, a repository, files, one commit.

The token is the environment's or that of `hf auth login`; it is read where it is needed and kept nowhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import JobCancelledError, JobError
from components.publish.records import PublishFile, PublishSpec

Progress = Callable[[int, str, int], None]  # finished files, the name of the present one, bytes read of it
_PUT_HINT = "Retry sends only what has not arrived."
_LOGIN = "Log in with `hf auth login`, or start Diptych with HF_TOKEN; the token needs the right to write."
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Look:
    """What a hub said. None = it could not be asked."""

    endpoint: str
    has_token: bool
    user: str | None = None
    is_refused: bool = False  # the token was not accepted
    exists: bool | None = None
    is_private: bool | None = None


def look(repo_id: str) -> Look:
    """Who the token's owner is and whether the repository exists; a hub that can't be reached is no error."""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if get_token() is None:
        return Look(constants.ENDPOINT, has_token=False)
    api = HfApi()
    try:
        user = str(api.whoami()["name"])
    except HfHubHTTPError as exc:
        is_refused = exc.response is not None and exc.response.status_code in (401, 403)
        return Look(constants.ENDPOINT, has_token=True, is_refused=is_refused)
    except Exception:  # noqa: BLE001  # no network, a proxy's page: not known
        return Look(constants.ENDPOINT, has_token=True)
    try:
        info = api.model_info(repo_id, timeout=_TIMEOUT_S)
    except RepositoryNotFoundError:
        return Look(constants.ENDPOINT, has_token=True, user=user, exists=False)
    except Exception:  # noqa: BLE001
        return Look(constants.ENDPOINT, has_token=True, user=user)
    return Look(constants.ENDPOINT, has_token=True, user=user, exists=True, is_private=bool(info.private))


class CountedFile(io.BufferedReader):
    """A file that tells how far it was read.

    huggingface_hub sends what is handed over as an open file by the LFS calls, one request for each file or part.
    """

    def __init__(self, file: Path, told: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(file))
        self._told = told

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file's."""
        data = super().read(size)
        self._told(self.tell())
        return data


def create_repository(spec: PublishSpec) -> None:
    """Make the repository.

    Raises:
        JobError: the name is taken, or it is not allowed, or the hub can't be reached.
    """
    from huggingface_hub import HfApi

    try:
        HfApi().create_repo(spec.repo_id, private=spec.private, repo_type="model", exist_ok=False)
    except Exception as exc:
        raise reason(exc, spec.repo_id) from exc


def check_visibility(spec: PublishSpec) -> None:
    """Nothing goes to a repository that more people see than was asked for.

    Raises:
        JobError: it is public, gone, or the hub can't be reached.
    """
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(spec.repo_id, timeout=_TIMEOUT_S)
    except Exception as exc:
        raise reason(exc, spec.repo_id) from exc
    if spec.private and not info.private:
        raise JobError(
            f"{spec.repo_id} is public, and a private one was asked for. Nothing was sent.",
            "Make it private at the hub, or publish it publicly.", field="private",
        )  # fmt: skip


def upload(spec: PublishSpec, progress: Progress) -> tuple[str, str]:
    """Send every file and make one commit of them; address and id of the commit.

    Raises:
        JobError: a file is gone or was changed, or the hub refused; JobCancelledError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    files = [file for file in spec.files if file.source is not None]
    with ExitStack() as opened:
        try:
            operations = [CommitOperationAdd(name, text.encode()) for name, text in spec.texts.items()]
            for done, file in enumerate(files):
                content: Any = opened.enter_context(_open(spec, file, done, progress))
                operation = CommitOperationAdd(file.name, content)
                # One after the other in the main thread: a cancel ends the request that is going on.
                api.preupload_lfs_files(spec.repo_id, [operation], num_threads=1, free_memory=False)
                operations.append(operation)
            progress(len(files), "the commit", 0)
            commit = api.create_commit(
                spec.repo_id, operations, commit_message=f"{spec.engine_id}, made with Diptych", num_threads=1
            )
        except JobError:
            raise
        except Exception as exc:
            raise reason(exc, spec.repo_id) from exc
    return str(commit.commit_url), str(commit.oid)


def _open(spec: PublishSpec, file: PublishFile, done: int, progress: Progress) -> CountedFile:
    path = Path(spec.folder) / str(file.source)
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        raise JobError(f"{file.name} is not what it was in the dry run.", "Look at a new dry run.")
    return CountedFile(path, lambda read_bytes: progress(done, file.name, read_bytes))


def reason(exc: BaseException, repo_id: str) -> JobError:
    """What a failed call means for a person. Addresses that the hub gives for uploads are left out: they hold keys."""
    from huggingface_hub.errors import HfHubHTTPError

    chain = _chain(exc)
    for one in chain:
        if isinstance(one, JobCancelledError):
            return one
        if isinstance(one, HfHubHTTPError) and one.response is not None:
            return _refused(one, repo_id)
    if isinstance(exc, ValueError) and "README.md" in str(exc):
        return JobError(f"The hub does not accept the card's head: {str(exc)[:300]}")
    kind = type(chain[-1]).__name__
    if any("httpx" in type(one).__module__ or isinstance(one, OSError) for one in chain):
        return JobError(f"The connection to the hub was cut ({kind}).", _PUT_HINT, detail=kind)
    return JobError(f"The upload stopped on an unforeseen error: {kind}.", _PUT_HINT, detail=kind)


def _refused(exc: Any, repo_id: str) -> JobError:
    code, said = int(exc.response.status_code), _said(exc)
    if code == 401:
        return JobError(f"The hub refused the token (401{said}).", _LOGIN)
    if code == 403:
        return JobError(f"The token may not write to {repo_id} (403{said}).", _LOGIN)
    if code == 409:
        hint = "Choose another name, or say that it exists already."
        return JobError(f"{repo_id} exists at the hub (409{said}).", hint, field="repo_id")
    if code == 404:
        hint = "Look at its owner's name, and whether the token may see it."
        return JobError(f"The hub knows no {repo_id} (404{said}).", hint, field="repo_id")
    return JobError(f"The hub answered {code}{said}.", _PUT_HINT)


def _said(exc: Any) -> str:
    words = " ".join(str(exc.server_message or "").split())[:200]
    return f": {words}" if words else ""


def _chain(exc: BaseException) -> Sequence[BaseException]:
    found = [exc]
    while (inner := found[-1].__cause__ or found[-1].__context__) is not None and inner not in found:
        found.append(inner)
    return found
