"""By which files the folder of a video model is recognised, and its config: what needs no torch."""

from pathlib import Path

from video2act.config import BackboneConfig, PretrainedBackboneConfig, load_backbone
from video2act.config.nearby import nearby
from video2act.files.fetched import named_repo
from video2act.files.run_folder import ADAPTER, BACKBONE_FILE, ROBOTS, STATISTICS_FILE

WAN_VAE_FILES = ("Wan2.2_VAE.pth", "Wan2.1_VAE.pth")
"""one of them is in a folder of Wan's own files"""
WEIGHTS = tuple(f"{part}*.safetensors" for part in ("", "transformer/", "vae/", "text_encoder*/", f"{ADAPTER}/"))
"""patterns: of ours and Wan's own, of diffusers' layout, and of a LoRA"""
DIFFUSERS_FILES = ("model_index.json", "transformer/config.json")


def is_original(root: Path) -> bool:
    """Whether a folder holds Wan's own files."""
    return any((root / name).is_file() for name in WAN_VAE_FILES)


def is_video_model(root: Path) -> bool:
    """Whether a folder holds a video model of any kind."""
    return is_original(root) or any((root / name).is_file() for name in (BACKBONE_FILE, *DIFFUSERS_FILES))


def own_weights(root: Path) -> list[Path]:
    """The weights of a video model, and no others in its folder: `train` keeps what System 2 has seen there."""
    return sorted(path for pattern in WEIGHTS for path in root.glob(pattern))


def load_video_config(folder: Path) -> BackboneConfig | PretrainedBackboneConfig:
    """The config in a folder of `train-video`. Raises FileNotFoundError: it has none; ValueError: it is damaged."""
    if not folder.exists():
        wanted = "and a video model is wanted; make one with train-video"
        raise FileNotFoundError(f"{folder} does not exist{nearby(folder)}, {wanted}")
    if not (folder / BACKBONE_FILE).is_file() and ((folder / STATISTICS_FILE).is_file() or (folder / ROBOTS).is_dir()):
        problem = f"{folder} is a policy's run folder, and a video model is wanted (with {BACKBONE_FILE})"
        raise FileNotFoundError(f"{problem}; name the folder that train-video made")
    if (folder / "meta" / "info.json").is_file():
        problem = f"{folder} is a dataset, and a video model is wanted (with {BACKBONE_FILE})"
        raise FileNotFoundError(f"{problem}; make one of it with train-video")
    if not (folder / BACKBONE_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} is not a video model ({BACKBONE_FILE} is missing); make one with train-video"
        )
    return load_backbone(folder / BACKBONE_FILE)


def find_source(source: str) -> Path | None:
    """The folder of a published model; None for a repo's id. Raises FileNotFoundError: it is neither."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if named_repo(source) is None:
        remedy = "name a video model's folder, or a Hugging Face repo id (owner/name)"
        raise FileNotFoundError(f"{source} is not a folder{nearby(source)}; {remedy}")
    return None
