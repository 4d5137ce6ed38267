"""The stages of a policy, from a camera to an action."""

import numpy as np
import torch

from video2act.policy import Video2Act
from video2act.programs.bench.timing import INSTRUCTION, Timing, Work, measure
from video2act.system1 import Visibility
from video2act.system2.system2 import System2
from video2act.types import Observation, Video, VideoCondition


def stage_timings(policy: Video2Act, repeats: int) -> list[Timing]:
    """The time of every stage."""
    seconds = measure(_work(policy, str(policy.device)), repeats, device=policy.device)
    return [Timing(name, values) for name, values in seconds.items()]


def _work(policy: Video2Act, device: str) -> Work:
    """Every stage, from a camera to an action."""
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
