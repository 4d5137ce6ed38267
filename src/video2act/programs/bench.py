"""`video2act bench`: the time of each stage between a camera and an action.

Times on a shared machine are noisy. `measure` therefore runs all work in turns, and medians are compared.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from video2act.engines.choice import check_engine
from video2act.files.run_folder import load_config
from video2act.presets import DataSpec, make_preset
from video2act.statistics import Statistics
from video2act.types import Observation, Video, VideoCondition

if TYPE_CHECKING:
    import torch

    from video2act.policy import Video2Act
    from video2act.system2.system2 import System2
else:
    Video2Act = System2 = Any

REPEATS, WARM_UPS = 20, 3
INSTRUCTION = ["push the puck to the goal"]
ROBOT = DataSpec(4, 4, 80.0, ("front", "wrist"))

Work = dict[str, Callable[[], object]]


def measure(work: Work, repeats: int = REPEATS, *, device: "torch.device | None" = None) -> dict[str, np.ndarray]:
    """Seconds of each piece of work, `repeats` times, in turns: a slow moment of the machine then slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(-WARM_UPS, repeats):
        for name, run in work.items():
            started = perf_counter()
            run()
            if device and device.type == "cuda":
                import torch

                torch.cuda.synchronize(device)
            if repeat >= 0:
                seconds[name].append(perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def bench_stages(run: Path | None = None, preset: str = "tiny", *, device: str = "cpu") -> dict[str, np.ndarray]:
    """Time every stage and print the table.

    Args:
        run: a policy's run folder; without it, `preset` with random weights, which is as fast.
    Returns:
        stage -> seconds of each repetition.
    """
    if run is None:
        make_preset(preset, ROBOT)
    else:
        check_engine(run, "torch")
        load_config(run)

    import torch  # after the input was checked

    from video2act.policy import Video2Act

    policy = Video2Act.load(run, device) if run else random_policy(preset).to(device).eval()
    with torch.no_grad():
        seconds = measure(_work(policy, device), device=policy.device)
    table = Table("stage", "p50 ms", "p95 ms", title=f"{device}, {torch.get_num_threads()} threads")
    for name, values in seconds.items():
        table.add_row(name, *(f"{1000 * np.percentile(values, share):.2f}" for share in (50, 95)))
    Console().print(table)
    return seconds


def _work(policy: Video2Act, device: str) -> Work:
    """Every stage, from a camera to an action."""
    import torch

    from video2act.system1 import Visibility

    config, system1 = policy.config, policy.system1
    streams = config.system2.streams if config.system2 else ()
    clips = {
        s.name: Video(torch.zeros(1, 3, s.num_frames, *s.frame_px, device=device), config.fps / s.stride)
        for s in streams
    }
    work = _system2_work(policy.system2, clips) if policy.system2 else {}
    if policy.system2:
        work["System 2: one refresh"] = lambda: policy.perceive(clips, INSTRUCTION)
    tokens, visible = policy.perceive(clips, INSTRUCTION), Visibility.full(1, policy.device)
    images = {camera: torch.zeros(1, 3, config.image_px, config.image_px, device=device) for camera in config.cameras}
    conditions = system1.gather(INSTRUCTION, images, video=tokens, visible=visible)
    text = system1.hear(INSTRUCTION[0]).projected
    state, age = torch.zeros(1, config.state_dim, device=device), torch.zeros(1, device=device)
    projected = system1.project(conditions, state, staleness=age, visible=visible)
    noise = torch.zeros(1, *system1.noise_shape, device=device)
    image = np.zeros((2 * config.image_px, 2 * config.image_px, 3), np.uint8)
    seen = Observation(
        dict.fromkeys(config.cameras, image), np.zeros(config.state_dim, np.float32), INSTRUCTION[0], time=0.0
    )
    condition = VideoCondition(tokens, seen.time, episode=0)

    def hear_anew() -> None:
        system1.forget()
        system1.hear(INSTRUCTION[0])

    def act_anew() -> None:
        system1.forget()
        policy.act(seen, condition)

    work["System 1: a new instruction"] = hear_anew
    if images:
        work["System 1: images"] = lambda: system1.look(images)
    given = {"staleness": age, "visible": visible, "text": text}
    work |= {
        "System 1: keys and values": lambda: system1.project(conditions, state, **given),
        "System 1: one denoising step": lambda: system1.dit(noise, age, projected),
        "System 1: one chunk of a new instruction": act_anew,
        "System 1: one chunk": lambda: policy.act(seen, condition),
    }
    return work


def _system2_work(system2: System2, clips: dict[str, Video]) -> Work:
    """The stages of every stream."""
    work: Work = {}
    backbone = system2.backbone
    for name, pixels in clips.items():
        latents = backbone.encode(pixels)
        features = backbone.features(latents, INSTRUCTION)
        filtered = system2.filters[name](features)
        stages: Work = {
            "encode": lambda pixels=pixels: backbone.encode(pixels),
            "features": lambda latents=latents: backbone.features(latents, INSTRUCTION),
            "filter": lambda name=name, features=features: system2.filters[name](features),
            "former": lambda name=name, filtered=filtered: system2.formers[name](filtered),
        }
        work |= {f"System 2, {name}: {stage}": run for stage, run in stages.items()}
    return work


def random_policy(preset: str) -> Video2Act:
    """A preset with random weights, for a robot of 4 numbers and two cameras: for timing only."""
    import torch

    from video2act.policy import Video2Act

    torch.manual_seed(0)
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    return Video2Act(make_preset(preset, ROBOT), {"state": unit, "action": unit})
