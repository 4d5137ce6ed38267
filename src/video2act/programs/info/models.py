"""How large a preset's two systems or a video model are: parameters, memory and tokens, from configs alone.

Torch is imported by the functions that count parameters: a damaged config is an error before.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from video2act.config import BackboneConfig, PolicyConfig, PretrainedBackboneConfig, System2Config, load_backbone
from video2act.files.video_model import BACKBONE_FILE, is_original
from video2act.presets import ANY_DATA, PUBLISHED, make_preset, video_model_in
from video2act.programs.info.tables import as_text, facts


def describe_preset(name: str) -> str:
    """Both systems of a preset: parameters, memory and tokens per stream; plain text.

    Raises:
        ValueError: there is no such preset.
    """
    return sizes(name, make_preset(name, ANY_DATA))


def sizes(name: str, policy: PolicyConfig) -> str:
    """`describe_preset`, of any policy."""
    if policy.system2 is None:
        return as_text(facts((("preset", name), ("video model", "none: System 1 alone"), _system1(policy))))
    backbone = policy.system2.backbone
    tiny = isinstance(backbone, BackboneConfig)
    width, rows = (backbone.hidden, _tiny(backbone)) if tiny else _published(backbone)
    width *= 1 if backbone.feature_join == "mixture" else len(backbone.feature_layers)
    return as_text(facts((("preset", name), *rows, _system1(policy))), _streams(policy.system2, width))


def describe_video_model(root: Path | str) -> str:
    """What a video model's folder holds; plain text.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or the family is unknown.
    """
    root = Path(root)
    rows = (("video model", str(root)), *_contents(root))
    return as_text(facts((*rows, ("use it", f"video2act train --preset PRESET --video-model {root}"))))


def _contents(root: Path) -> Iterator[tuple[str, str]]:
    config = load_backbone(root / BACKBONE_FILE) if (root / BACKBONE_FILE).is_file() else None
    if isinstance(config, BackboneConfig):
        yield "kind", f"tiny, {config.depth} blocks, trained by train-video"
        yield "presets", "tiny, tiny_latents"
    elif config:
        yield "kind", f"{config.name}, finetuned by train-video from {config.source}"
        yield "presets", _over([config.name])
    else:
        from video2act.files.tensor_files import read_json
        from video2act.system2.backbones.published import FAMILIES, family
        from video2act.system2.backbones.sizes import size_of

        is_wan = is_original(root)
        path = root / "transformer" / "config.json"
        found = "WanTransformer3DModel" if is_wan else read_json(path).get("_class_name")
        families = [name for name in FAMILIES if family(name).TRANSFORMER.__name__ == found]
        if not families:
            raise ValueError(
                f"{root} is a video model, but of the kind {found}; known are the families {', '.join(FAMILIES)}"
            )
        size = size_of(PretrainedBackboneConfig(families[0], str(root), feature_layers=(0,)))
        layout = "in the original files" if is_wan else "in diffusers' layout"
        yield "kind", f"{found} (of {', '.join(families)}), {layout}"
        yield "blocks", f"{size.num_blocks} of width {size.feature_dim}"
        yield "parameters", f"{size.whole / 1e9:.2f} B of the transformer"
        yield "VAE encoder", f"{size.encoder / 1e6:.0f} M parameters, in float32"
        yield "presets", _over(families)


def _over(families: list[str]) -> str:
    """The presets over models of these families."""
    over = {name: video_model_in(make_preset(name, ANY_DATA)) for name in ("small", *PUBLISHED)}
    return ", ".join(name for name, backbone in over.items() if getattr(backbone, "name", "") in families)


Rows = list[tuple[str, str]]


def _tiny(backbone: BackboneConfig) -> Rows:
    import torch

    from video2act.system2.backbones import make_backbone

    with torch.device("meta"):
        count = _count(make_backbone(backbone))
    return [
        (
            "video model",
            f"tiny, trained by train-video; {backbone.feature_layers[-1]} of {backbone.depth} blocks run"
            + _taps(backbone),
        ),
        ("parameters", f"{count / 1e6:.2f} M, {4 * count / 1e6:.1f} MB in float32"),
    ]


def _published(backbone: PretrainedBackboneConfig) -> tuple[int, Rows]:
    """Width of the features of one layer, and what is listed."""
    from video2act.system2.backbones.sizes import size_of

    size = size_of(backbone)
    return size.feature_dim, [
        ("video model", f"{backbone.name} from {backbone.source}"),
        ("blocks", f"{backbone.feature_layers[-1]} of {size.num_blocks} are loaded and run{_taps(backbone)}"),
        ("parameters", f"{size.kept / 1e9:.2f} B loaded of the transformer's {size.whole / 1e9:.2f} B"),
        ("VAE encoder", f"{size.encoder / 1e6:.0f} M parameters, in float32"),
        ("memory", f"{size.bytes / 1e9:.2f} GB of weights ({backbone.dtype}, VAE float32), text encoder apart"),
    ]


def _taps(backbone: BackboneConfig | PretrainedBackboneConfig) -> str:
    layers = backbone.feature_layers
    joined = {"concatenate": "side by side", "mixture": "in a learned mixture"}[backbone.feature_join]
    return f", tapped after {', '.join(map(str, layers))}, {joined}" if len(layers) > 1 else ""


def _system1(policy: PolicyConfig) -> tuple[str, str]:
    import torch

    from video2act.system1 import System1

    sizes = {"state_dim": policy.state_dim, "action_dim": policy.action_dim, "horizon": policy.horizon}
    with torch.device("meta"):
        count = _count(System1(policy.system1, policy.cameras, **sizes, fps=policy.fps))
    encoders = [encoder.source for encoder in (policy.system1.text_encoder, policy.system1.image_encoder) if encoder]
    apart = f", {' and '.join(encoders)} apart" if encoders else ""
    return "System 1", f"{count / 1e6:.2f} M parameters{apart}"


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _streams(system2: System2Config, width: int) -> Table:
    columns = ("stream", "frames", "frame px", "features t x h x w", "width", "feature tokens", "to System 1")
    table = Table(*columns, box=None)
    for stream in system2.streams:
        t = system2.feature_frames(stream)
        h, w = system2.feature_size(stream)
        handed_on = t * h * w if stream.former.kind == "projection" else stream.former.num_tokens
        if stream.former.kind == "constant":
            handed_on = f"{handed_on}, always the same"
        frame = "{} x {}".format(*stream.frame_px)
        frames = f"{stream.num_frames}{f' + {ahead} imagined' if (ahead := stream.imagine.num_frames) else ''}"
        row = (frames, frame, f"{t} x {h} x {w}", width, t * h * w, handed_on)
        table.add_row(stream.name, *map(str, row))
    return table
