"""Where a dataset is: a folder, or a Hugging Face dataset repo that is fetched into one."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RevisionNotFoundError

from video2act.data.lerobot_format import CODEBASE_VERSION


def locate_dataset(source: Path | str) -> Path:
    """A folder as it is, or the folder into which a repo `owner/name` is fetched: the version that LeRobot tags for
    this format.

    Raises:
        FileNotFoundError: there is neither such a folder nor a repo that can be reached.
    """
    folder = Path(source).expanduser()
    name = str(source)
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        return folder  # whoever opens it says what is wrong with it
    try:
        try:
            return Path(snapshot_download(name, repo_type="dataset", revision=CODEBASE_VERSION))
        except RevisionNotFoundError:
            return Path(snapshot_download(name, repo_type="dataset"))  # not tagged; meta/info.json tells the version
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"there is no folder {name}, and the Hugging Face dataset {name} cannot be fetched "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); download it where the network "
            "allows (hf download --repo-type dataset ...) and name its folder"
        ) from error
