"""What a run folder holds: the one list that saving, loading, the card and the Hub's download share.

A policy is `config.json`, `stats.json`, `model.safetensors`, and `adapter/` if its video model was tuned by LoRA. A
published video model is not in it: the config names its source. The other files help people and programs, and are not
needed to act.
"""

from pathlib import Path
from typing import Any

from video2act import config as configs
from video2act.config import PolicyConfig

CONFIG_FILE, WEIGHTS_FILE, STATISTICS_FILE = "config.json", "model.safetensors", "stats.json"
ADAPTER = "adapter"
"""folder of the video model's LoRA"""
SCENES_FILE = "scenes.json"
"""environment -> seeds of the demonstrations, so that an evaluation can refuse to repeat them"""
INSTRUCTIONS_FILE = "instructions.json"
"""training instructions, as examples"""
DATA_FILE = "data.json"
"""the datasets of the training"""
CARD_FILE = "README.md"
ROBOTS = "robots"
"""of a training on several robots: one run folder each, by the names of their embodiments"""

BESIDE = (SCENES_FILE, INSTRUCTIONS_FILE, DATA_FILE)
"""files that go to the Hub with the policy, where they exist"""
SHARED = (CONFIG_FILE, STATISTICS_FILE, WEIGHTS_FILE, f"{ADAPTER}/*", *BESIDE, CARD_FILE)
"""patterns of everything that goes to the Hub and comes back"""


def load_config(path: Path) -> PolicyConfig:
    """The config of a run folder.

    Raises:
        FileNotFoundError: the folder has none. For a training on several robots the message lists their folders.
        ValueError: the file is not a policy's config.
    """
    robots = sorted((path / ROBOTS).glob(f"*/{CONFIG_FILE}"))
    if robots and not (path / CONFIG_FILE).is_file():
        listed = ", ".join(str(robot.parent) for robot in robots)
        raise FileNotFoundError(f"{path} is of several robots; name the folder of one of them: {listed}")
    return configs.load(PolicyConfig, path / CONFIG_FILE, complete=as_it_was_trained)


def as_it_was_trained(config: dict[str, Any]) -> None:
    """A run folder holds every field; one without `feature_norm` is older than it, and was trained on raw features."""
    system2 = config.get("system2")
    backbone = system2.get("backbone") if isinstance(system2, dict) else None
    if isinstance(backbone, dict):
        backbone.setdefault("feature_norm", "none")
