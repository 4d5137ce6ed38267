"""What lies on the Hugging Face Hub, fetched into a folder of the user's cache."""

from collections.abc import Sequence
from pathlib import Path

from video2act.config.nearby import nearby

UNREACHABLE = (OSError, ValueError)
"""what the Hub's client raises: all of its errors are of these kinds"""

PATH_BEGINS = (".", "~", "/")
"""with one of these a path may begin, and no repo's id"""


def named_repo(source: Path | str, *, has_owner: bool = True) -> str | None:
    """The id of a repo, `owner/name`; None for a path: what exists on this machine, or cannot be an id.

    Args:
        has_owner: False: also the Hub's oldest ids, such as `gpt2`.
    """
    name = str(source)
    has_path_form = name.startswith(PATH_BEGINS) or name.count("/") not in (1, 1 if has_owner else 0)
    return None if has_path_form or Path(name).exists() else name


def as_folder(source: str) -> str:
    """The same folder, in a form that `named_repo` takes for none: where a relative `models/wan22` is missing, the repo
    of that name would be fetched, which is somebody else's."""
    return f"./{source}" if Path(source).is_dir() and not source.startswith(PATH_BEGINS) else source


def fetched(source: str, patterns: Sequence[str], *, part: str = "", revision: str | None = None) -> Path:
    """The folder into which a repo's files of these patterns are fetched.

    Args:
        part: names the files in an error.
    Raises:
        FileNotFoundError: there is no such repo, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download  # as it takes a while, and most programs fetch nothing

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))
    except UNREACHABLE as error:
        raise unreachable(source, f"{part}the Hugging Face repo", error=error) from error


def fetched_dataset(source: str, revision: str) -> Path:
    """The folder into which a dataset's repo is fetched: in this revision, or, where it has none of that name, the
    newest one. Raises as `fetched`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        try:
            return Path(snapshot_download(source, repo_type="dataset", revision=revision))
        except RevisionNotFoundError:
            return Path(snapshot_download(source, repo_type="dataset"))
    except UNREACHABLE as error:
        raise unreachable(source, "the Hugging Face dataset", error=error) from error


def unreachable(source: object, what: str, *, error: Exception) -> FileNotFoundError:
    """A source that is no folder here, and cannot be fetched."""
    reason = f"{what} {source} cannot be fetched ({brief(error)})"
    remedy = "download it where the network allows and name its folder"
    return FileNotFoundError(f"there is no folder {source}{nearby(str(source))}, and {reason}; {remedy}")


def brief(error: Exception) -> str:
    """Kind and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip(': ')}" if lines else type(error).__name__
