"""A published folder onto the Hugging Face Hub in one commit, after what goes has been listed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_token,
    hf_hub_url,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, validate_repo_id

from eval.release.privacy import refuse_private
from eval.release.release_checks import SUMS_FILE, refuse_pickles, release_files, verify_checksums

BRANCH = "main"
OF_THE_HUB = ".gitattributes"
"""What the Hub itself puts into a repository."""
MOVED = 412
"""HTTP status of a commit whose parent is no longer the branch's head."""
NETWORK_ERRORS = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
"""`OSError`, and the error of whichever HTTP library huggingface_hub is built on."""


class PushError(ValueError):
    """Nothing was pushed; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A repository's branch before a push."""

    repo: str
    head: str
    """Commit that the branch is at; the push is refused where it has moved on since."""
    files: frozenset[str]
    sums: bytes
    """Its ``SHA256SUMS``; empty where it has none."""


@dataclass(frozen=True, kw_only=True)
class PushPlan:
    """What a push would do."""

    target: Target
    added: tuple[tuple[str, int], ...]
    """Name and bytes of each file that goes."""
    deleted: tuple[str, ...]
    """Files of the release that is there now and that the new one lacks."""
    is_there: bool
    """This very release is there already, every file of it, and is not to be pushed anyway."""

    def lines(self) -> list[str]:
        """The plan as a person reads it."""
        where = f"{self.target.repo}, branch {BRANCH} at {self.target.head[:12]}"
        if self.is_there:
            return [f"{where}: this release is there already"]
        total = sum(size for _, size in self.added)
        return [
            f"{where}: one commit of {len(self.added)} files, {total:,} bytes",
            *(f"  + {name}  {size:,}" for name, size in self.added),
            *(f"  - {name}" for name in self.deleted),
        ]


def find_target(repo: str, api: HfApi) -> Target:
    """Look whether one may push there, before any work.

    Raises:
        PushError: No such name, no token, one that the Hub does not know, no network, no such
            repository.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise PushError(f"{repo!r} is no name of a repository: {error}") from error
    if repo.count("/") != 1:
        raise PushError(f"{repo!r} is no name of a repository: OWNER/NAME is needed")
    if not (api.token or get_token()):
        raise PushError(
            "no token for the Hub: log in with `hf auth login`, or set HF_TOKEN to one that may "
            f"write to {repo}"
        )
    try:
        api.whoami()
        info = api.model_info(repo, revision=BRANCH)
        files = frozenset(entry.rfilename for entry in info.siblings or ())
        sums = _read_sums(repo, api) if SUMS_FILE in files else b""
    except RepositoryNotFoundError as error:
        raise PushError(
            f"{repo} does not exist or this token may not see it; make it first: "
            f"hf repo create {repo}"
        ) from error
    except RevisionNotFoundError as error:
        raise PushError(f"{repo} has no branch {BRANCH}") from error
    except HfHubHTTPError as error:
        raise PushError(f"the Hub refuses: {_first_line(error)}") from error
    except (OfflineModeIsEnabled, *NETWORK_ERRORS) as error:
        raise PushError(f"the Hub at {api.endpoint} cannot be reached: {error}") from error
    if info.sha is None:
        raise PushError(f"{repo}: the Hub does not tell the head of branch {BRANCH}")
    return Target(repo=repo, head=info.sha, files=files, sums=sums)


def plan_push(folder: Path, target: Target, overwrite: bool) -> PushPlan:
    """Check the folder once more and compare it with what is there.

    The same release is pushed again where a file of it is gone from the repository, or with
    ``overwrite``.

    Raises:
        ValueError: The folder is no whole release, or would give something away.
        PushError: The repository holds other things, or another release and ``overwrite`` is
            false.
    """
    verify_checksums(folder)
    refuse_pickles(folder)
    refuse_private(folder)
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in release_files(folder)
    }
    listed = {line[66:] for line in target.sums.decode("utf-8", "replace").splitlines()}
    strange = sorted(target.files - listed - {SUMS_FILE, OF_THE_HUB})
    if strange:
        raise PushError(
            f"{target.repo}: holds {strange[0]}, which is no part of a published backbone; choose "
            "another repository"
        )
    same = target.sums == (folder / SUMS_FILE).read_bytes()
    if target.sums and not same and not overwrite:
        raise PushError(f"{target.repo}: another backbone is published there; --overwrite")
    return PushPlan(
        target=target,
        added=tuple(sorted(sizes.items())),
        deleted=tuple(sorted(target.files - sizes.keys() - {OF_THE_HUB})),
        is_there=same and sizes.keys() <= target.files and not overwrite,
    )


def push(folder: Path, plan: PushPlan, message: str, api: HfApi) -> str:
    """Push in one commit on top of the head that the plan was made for.

    Until that commit nothing of it can be seen at the repository.

    Returns:
        Address of the commit, or of the repository where nothing was to be done.

    Raises:
        PushError: The branch has moved, or the connection broke; pushing again is safe.
    """
    repo = plan.target.repo
    if plan.is_there:
        return f"{api.endpoint}/{repo}"
    try:
        made = api.create_commit(
            repo,
            operations=_operations(folder, plan),
            commit_message=message,
            revision=BRANCH,
            parent_commit=plan.target.head,
        )
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == MOVED:
            raise PushError(
                f"{repo}: branch {BRANCH} has moved on from {plan.target.head[:12]} since this "
                "push was planned; nothing was pushed; look at what is there and push again"
            ) from error
        raise PushError(f"{repo}: {_first_line(error)}; push again") from error
    except (*NETWORK_ERRORS, RuntimeError) as error:  # RuntimeError: a file that did not go
        cause = error.__cause__ or error
        raise PushError(
            f"{repo}: the push broke off ({_first_line(error)} {_first_line(cause)}); push again: "
            "a commit is there whole or not at all"
        ) from error
    return made.commit_url


def _operations(
    folder: Path, plan: PushPlan
) -> Sequence[CommitOperationAdd | CommitOperationDelete]:
    return [
        *(
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
            for name, _ in plan.added
        ),
        *(CommitOperationDelete(path_in_repo=name) for name in plan.deleted),
    ]


def _read_sums(repo: str, api: HfApi) -> bytes:
    url = hf_hub_url(repo, SUMS_FILE, revision=BRANCH, endpoint=api.endpoint)
    answer = get_session().get(
        url, headers=build_hf_headers(token=api.token), follow_redirects=True
    )
    answer.raise_for_status()
    return answer.content


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
