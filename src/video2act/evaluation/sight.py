"""The sections of a report that show an episode: its film, what System 2 saw, where System 1 attended.

The episode is played again from its trace (`replay.py`); the policy's own weights see the pictures again. So every
picture is computed from what really happened, and the page says how exactly that was met.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from video2act.clips import FrameHistory, ImageHistory
from video2act.config import PolicyConfig, StreamConfig
from video2act.config.files import build
from video2act.envs import make_environment
from video2act.evaluation.attention import Attention, attend
from video2act.evaluation.episodes import Instructed
from video2act.evaluation.replay import Replay, replay
from video2act.evaluation.results import EpisodeOutcome
from video2act.policy import Video2Act
from video2act.trace import Trace
from video2act.types import VideoCondition
from video2act.viz.charts import Share, share_chart, stacked_chart
from video2act.viz.film import PANEL_PX, Recording, film, imagines_nothing
from video2act.viz.page import Page
from video2act.viz.pictures import arrange, caption, enlarge, overlay, rescale, scale_bar
from video2act.viz.video_writer import webm

PLANS_PER_S = 4.0
"""of the film of attention, which shows one picture per plan"""


@dataclass(frozen=True)
class Seen:
    """An episode with its pictures."""

    title: str
    episode: EpisodeOutcome
    trace: Trace
    replay: Replay
    recording: Recording
    action_names: tuple[str, ...]


def see(title: str, episode: EpisodeOutcome, *, trace: Trace, config: PolicyConfig, settings: dict[str, Any]) -> Seen:
    """Play an episode again.

    Args:
        settings: of the evaluation, from `eval_info.json`.
    Raises:
        ImportError, ValueError: the environment cannot be made on this machine.
    """
    instruction = settings["instruction"]
    # older files have none
    image_size = build(tuple[int, int] | None, settings.get("image_size"), where="image_size")
    shift = settings.get("visual_shift")
    environment = make_environment(episode.env, config.all_cameras or None, image_size=image_size, visual_shift=shift)
    with closing(environment):
        shown = environment if instruction is None else Instructed(environment, instruction)
        found = replay(shown, episode.seed, trace=trace)
        names = environment.spec.action_names
    first, num_steps = found.observations[0], len(found.observations)
    recording = Recording(
        frames={camera: np.stack([each.images[camera] for each in found.observations]) for camera in first.images},
        instructions=tuple(each.instruction for each in found.observations),
        fps=config.fps,
        plan_steps=tuple(step for step in trace.taken_steps.tolist() if step < num_steps),
        condition_steps=tuple(trace.condition_steps[:num_steps].tolist()),
        outcome="success" if episode.success else "failure",
    )
    return Seen(title, episode, trace, found, recording, names)


def show_episodes(page: Page, seen: Sequence[Seen], *, streams: Sequence[StreamConfig]) -> None:
    """The cameras' films, with the ticks of both systems."""
    for each in seen:
        drawn = film(each.recording, streams, explain=imagines_nothing, shows_maps=False)
        page.film(webm(drawn, fps=each.recording.playback_fps), f"{each.title}. {each.episode}")
    for each in seen:
        met = each.replay.success == each.episode.success and len(each.replay.observations) == each.episode.num_steps
        if each.replay.difference == 0 and met:
            page.text(f"{each.title}: played again from its actions; every state is the same to the bit.")
        else:
            page.text(
                f"{each.title}: played again from its actions, states differ by up to {each.replay.difference:.3g}"
                + ("" if met else f", and it ended otherwise (success: {each.replay.success})"),
                is_warning=not met,
            )


def show_system2(page: Page, seen: Sequence[Seen], *, policy: Video2Act) -> None:
    """The maps of every stream over the camera's picture."""
    assert policy.config.system2 is not None
    for each in seen:
        drawn = film(
            each.recording,
            policy.config.system2.streams,
            explain=policy.explain,
            foresee=policy.foresee,
            columns=2,
            shows_cameras=False,
        )
        page.film(webm(drawn, fps=each.recording.playback_fps), f"{each.title}. {each.episode}")


def show_attention(page: Page, seen: Sequence[Seen], *, policy: Video2Act) -> None:
    """Shares per block, words, and places of the pictures."""
    for each in seen:
        found = attended(each, policy)
        plans = [attention.chunk.actions for attention in found]
        gap = max(float(np.abs(now - then).max()) for now, then in zip(plans, each.trace.plans, strict=False))
        scale = float(each.trace.plans.std())
        exact = f"differ from those of the evaluation by up to {gap:.2g} (their standard deviation is {scale:.2g})"
        page.heading(each.title)
        page.text(f"{each.episode}. {len(found)} plans were made again with the evaluation's seed; they {exact}.")
        names = [name for name in found[0].num_tokens if name != "text"]
        rows = []
        for number in range(len(found[0].blocks)):
            shares = [attention.blocks[number] for attention in found]
            if shares[0]:
                rows.append(
                    (f"block {number + 1}", {name: _mean([each[name] for each in shares]) for name in shares[0]})
                )
        read = [row for row in rows if "text" not in row[1]]
        total = sum(found[0].num_tokens[name] for name in names)
        if read:
            even = {name: found[0].num_tokens[name] / total for name in names if total}
            page.figure(stacked_chart([*read, ("if uniform", even)]), "Attention to images and video, %")
        words = [Share(word, value, value, value, f"{100 * value:.0f} %") for word, value in _words(found)]
        page.figure(
            share_chart(words[:24]), "Attention to the words of the instruction, mean of the blocks that read text"
        )
        if found[0].maps:
            pictures = (_maps(each, number, found=found) for number in range(len(found)))
            sides = " x ".join(str(side) for side in next(iter(found[0].maps.values())).shape)
            text = f"Attention to places of each picture, one image per plan: {sides} places, drawn smoothly"
            page.film(webm(pictures, fps=PLANS_PER_S), text)


def attended(seen: Seen, policy: Video2Act) -> list[Attention]:
    """Every plan of an episode, made again on the same observation, condition and seed."""
    config, trace, observations = policy.config, seen.trace, seen.replay.observations
    own = policy.with_own_noise()
    own.seed(seen.episode.seed)
    history = FrameHistory(config.system2.streams if config.system2 else ())
    images, complete, conditions = ImageHistory(config.cameras), [], {}
    refreshes = set(trace.condition_steps.tolist())
    for step, observation in enumerate(observations):
        history.append(observation)
        images.append(observation)
        complete.append(images.complete(observation))
        if step in refreshes:
            tokens = own.perceive(history.clips(config.fps), [observation.instruction])
            conditions[step] = VideoCondition(tokens, observation.time, episode=0)
    return [
        attend(own, complete[made], condition=conditions[int(trace.condition_steps[taken])])
        for made, taken in zip(trace.plan_steps.tolist(), trace.taken_steps.tolist(), strict=True)
        if taken < len(observations)
    ]


def _maps(seen: Seen, number: int, *, found: Sequence[Attention]) -> np.ndarray:
    step, panels = int(seen.trace.plan_steps[number]), []
    for camera in found[number].maps:
        every = np.stack([attention.maps[camera] for attention in found])
        value_range = (float(every.min()), float(every.max()))
        frame = enlarge(seen.recording.frames[camera.partition("@")[0]][step], PANEL_PX)
        picture = overlay(frame, rescale(found[number].maps[camera], value_range))
        bar = scale_bar(PANEL_PX, value_range)
        panels.append(
            caption(np.concatenate([picture, bar], axis=1), f"{camera}, plan at {step / seen.recording.fps:.2f} s")
        )
    return arrange(panels, 2)


def _words(found: Sequence[Attention]) -> list[tuple[str, float]]:
    return [
        (word, _mean([attention.words[number][1] for attention in found]))
        for number, (word, _) in enumerate(found[0].words)
    ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
