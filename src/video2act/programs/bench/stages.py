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
    """The stages of a refresh, as System 2 itself runs them: streams that are alike share a pass of the blocks."""
    latents = system2.encode(clips)
    features = system2.see_on("latents", latents, instruction=INSTRUCTION, until="features")
    seen = system2.see_on("features", features, instruction=INSTRUCTION)
    work: Work = {
        f"System 2, {stream.name}: encode": lambda stream=stream: system2.encode(clips, (stream,))
        for stream in system2.config.streams
    }
    on_latents = " and filters" * (system2.config.filter_on == "latents")
    work[f"System 2: features{on_latents}"] = lambda: system2.see_on(
        "latents", latents, instruction=INSTRUCTION, until="features"
    )
    if not on_latents:
        work["System 2: filters"] = lambda: system2.see_on("features", features, instruction=INSTRUCTION)
    return work | {"System 2: formers": lambda: system2.compress(seen)}
