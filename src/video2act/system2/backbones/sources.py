"""The files of a published model: a folder in diffusers' layout, or a Hugging Face repo that is fetched into one.

model_index.json
transformer/  config.json, diffusion_pytorch_model.safetensors or its shards and their index
vae/          the same
text_encoder/, tokenizer/ (and text_encoder_2/, tokenizer_2/)     may be absent when all instructions are cached
scheduler/    scheduler_config.json
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video2act.files.fetched import fetched
from video2act.files.tensor_files import check_counts, listing, read_json, shards
from video2act.files.video_model import find_source
from video2act.system2.backbones.checkpoint import Checkpoint

NEEDED = (
    "*.json",
    *(f"{part}/*" for part in ("transformer", "vae", "text_encoder*", "tokenizer*", "scheduler")),
    # Wan's original files
    "*.pth",
    "diffusion_pytorch_model*",
    "google/*",
)
"""what is fetched of a repo"""

MAX_COUNT = 2**18
"""largest count in a video model's config; tables of positions are computed for all of them"""


@dataclass(frozen=True)
class Component:
    """One network of a published model."""

    path: Path
    """its config file, for errors"""
    config: dict[str, Any]
    checkpoint: Checkpoint

    def with_defaults(self, network: Any) -> dict[str, Any]:
        """The config, with the defaults of the network's class where the file is silent.

        Raises:
            ValueError: a count is not a positive whole number.
        """
        parameters = inspect.signature(network.__init__).parameters.values()
        for parameter in parameters:
            value, usual = self.config.get(parameter.name, 1), parameter.default
            # an axis may be absent, and then is None; diffusers gives most of its counts a default
            is_count = parameter.annotation in (int, "int") and type(usual) is int and usual > 0
            if is_count and (type(value) is not int or value < 1):
                raise ValueError(
                    f"{self.path} says {parameter.name}={value!r}, expected a whole number above 0, as {usual} is; "
                    "download it again"
                )
        return {each.name: each.default for each in parameters if each.default is not each.empty} | self.config


def locate(source: str) -> Path:
    """A folder, or the folder into which a repo's needed files are fetched.

    Raises:
        FileNotFoundError: there is neither such a folder nor a repo that can be reached.
    """
    return find_source(source) or fetched(source, NEEDED)


def check_alone(root: Path) -> None:
    """Raises ValueError for a model whose noise levels are shared out between two transformers."""
    path = root / "model_index.json"
    index = read_json(path) if path.is_file() else {}
    if index.get("transformer_2") not in (None, [None, None]) or index.get("boundary_ratio") is not None:
        raise ValueError(
            f"{path} names two transformers, one for high and one for low noise levels (as Wan 2.2 A14B does). System "
            "2 reads one that knows all levels; choose such a model (Wan 2.1, Wan 2.2 TI2V-5B)"
        )


def component(root: Path, part: str, *, expected_class: str) -> Component:
    """A network of a diffusers folder.

    Raises:
        FileNotFoundError: the folder, its config or a shard is missing.
        ValueError: it is another kind of network, or a file is damaged.
    """
    path = root / part / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{root} is not a video model: {part}/config.json is missing. Expected diffusers' layout "
            f"(model_index.json, transformer/, vae/, ...) or Wan's original files; found {listing(root)}"
        )
    config = read_json(path)
    found = config.get("_class_name")
    if found != expected_class:
        raise ValueError(
            f"{path} describes a {found}, but this family needs a {expected_class}; choose the family that fits"
        )
    checkpoint = Checkpoint(shards(root / part, "diffusion_pytorch_model.safetensors"))
    check_counts(config, len(checkpoint.shapes), source=path, most=MAX_COUNT)
    return Component(path, config, checkpoint)
