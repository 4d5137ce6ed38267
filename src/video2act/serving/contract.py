"""The contract between a server and its clients: the first message of every connection, and what later messages must
fit.

The server derives it from the policy's config; the client reads it from that first message. openpi's client gives it to
its user as metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from video2act.config import FrameConfig, PolicyConfig, StreamConfig, camera_and_lag, from_json
from video2act.config.checks import CheckedConfig, NonNegativeInt, Positive
from video2act.files.run_folder import FrameSizes, sizes_of
from video2act.frames import FrameUse, fit_problem, frame_uses
from video2act.serving.codec import MessageError

PROTOCOL = "video2act/1"
OF_SYSTEM2 = ("token_dim", "fingerprint")
LARGEST_PX, LARGEST_RATIO = 2048, 4
"""of an image's sides: bars are added before it is reduced, so a long and thin one would take far more memory"""


@dataclass(frozen=True)
class ImageRule:
    """The images of a camera that a policy accepts; `frames.fit_frames` then gives them their size."""

    uses: tuple[FrameUse, ...]
    """what the policy does with them"""

    def check(self, camera: str, height: int, *, width: int) -> None:
        """Raises MessageError for an image that is too small for the policy, too large or too long."""
        for use in self.uses:
            if problem := fit_problem((height, width), use.size, rule=use.rule):
                raise MessageError(f"camera {camera!r}, {use.reader}: {problem}")
        if max(height, width) > min(LARGEST_PX, LARGEST_RATIO * min(height, width)):
            raise MessageError(
                f"camera {camera!r}: an image has at most {LARGEST_PX} px a side, and a side at most "
                f"{LARGEST_RATIO} times the other, got {height} x {width}; reduce it before it is sent"
            )


@dataclass(frozen=True)
class ClipShape:
    """A clip of one stream of System 2: uint8 `[num_frames height width 3]`."""

    camera: str
    num_frames: int
    stride: int
    height: int
    width: int
    frame: FrameConfig

    @classmethod
    def of(cls, stream: StreamConfig) -> "ClipShape":
        return cls(stream.camera, stream.num_frames, stream.stride, *stream.frame_px, stream.frame)


@dataclass(frozen=True)
class Contract(CheckedConfig):
    """What a server takes and gives."""

    serves: Literal["policy", "system2"]
    """the whole policy, or System 2 alone"""
    cameras: tuple[str, ...]
    """every observation must hold these"""
    image_size: tuple[int, int]
    """height and width in pixels that lose nothing; larger images are reduced by the policy"""
    image_rules: dict[str, ImageRule]
    state_dim: int
    action_dim: int
    horizon: int
    """actions in an answer"""
    execute_steps: int
    """actions to execute before the next plan, as trained"""
    refresh_every: int
    """control steps between two refreshes of System 2"""
    period_s: Positive
    """seconds between two actions, and between two observations"""
    history_steps: NonNegativeInt
    """control steps that the policy looks back; a client that reconnects sends as many again"""
    streams: dict[str, ClipShape]
    """System 2's"""
    instructions: tuple[str, ...] = ()
    """training instructions, as examples"""
    frame_sizes: FrameSizes = field(default_factory=dict)
    """height and width of the cameras' frames in the training data; empty if they are not recorded"""
    action_names: tuple[str, ...] = ()
    """empty if the training data did not name them"""
    relative_actions: tuple[str, ...] = ()
    """those that are changes or speeds: to hold, a robot gets zeros of these"""
    max_prompt_bytes: int = 4096
    """of the longest prompt in UTF-8, for all of the policy's text encoders that count bytes"""
    token_dim: NonNegativeInt = 0
    """width of the tokens of a System 2 that is served alone; 0: the server does not say it"""
    fingerprint: str = ""
    """of the weights of a System 2 that is served alone; empty: the server does not say it"""

    @classmethod
    def of(
        cls,
        config: PolicyConfig,
        serves: Literal["policy", "system2"],
        *,
        action_names: tuple[str, ...] = (),
        instructions: tuple[str, ...] = (),
        frame_sizes: Mapping[str, tuple[int, int]] = MappingProxyType({}),
        max_prompt_bytes: int | None = None,
        fingerprint: str = "",
    ) -> "Contract":
        """The contract of a policy.

        Args:
            action_names: of the training data.
            max_prompt_bytes: of its text encoders; None: they do not count bytes.
            fingerprint: of the weights of a System 2 that is served alone.
        """
        streams = config.system2.streams if config.system2 else ()
        system1 = dict(map(camera_and_lag, config.cameras)) if serves == "policy" else {}
        cameras = config.all_cameras if serves == "policy" else tuple(dict.fromkeys(s.camera for s in streams))
        sizes = [stream.frame_px for stream in streams] + [(config.image_px, config.image_px)] * bool(system1)
        uses = [use for use in frame_uses(config) if use.stream or serves == "policy"]
        rules = {camera: ImageRule(tuple(use for use in uses if use.camera == camera)) for camera in cameras}
        lags = [camera_and_lag(camera)[1] for camera in config.cameras] if system1 else []
        return cls(
            serves=serves,
            cameras=cameras,
            image_size=(max((h for h, _ in sizes), default=0), max((w for _, w in sizes), default=0)),
            image_rules=rules,
            state_dim=config.state_dim,
            action_dim=config.action_dim,
            horizon=config.horizon,
            action_names=action_names,
            relative_actions=config.relative_actions,
            execute_steps=config.execute_steps,
            refresh_every=config.refresh_every,
            period_s=1 / config.fps,
            history_steps=max([s.stride * (s.num_frames - 1) + s.every - 1 for s in streams] + lags, default=0),
            streams={stream.name: ClipShape.of(stream) for stream in streams},
            instructions=instructions,
            frame_sizes=sizes_of(cameras, frame_sizes),
            max_prompt_bytes=min(cls.max_prompt_bytes, max_prompt_bytes or cls.max_prompt_bytes),
            token_dim=config.system1.hidden if serves == "system2" else 0,
            fingerprint=fingerprint,
        )

    def to_metadata(self) -> dict[str, Any]:
        """The first message of a connection: plain values, lists for tuples. A whole policy's is that of earlier
        versions, whose clients refuse names that are new."""
        told = {name: value for name, value in asdict(self).items() if value or name not in OF_SYSTEM2}
        return {"protocol": PROTOCOL, **json.loads(json.dumps(told))}

    @classmethod
    def from_metadata(cls, metadata: Any) -> "Contract":
        """The inverse of `to_metadata`. Names that are unknown here are passed over: a later server says more, and one
        that means something else speaks another protocol.

        Raises:
            MessageError: another kind of server answered.
        """
        protocol = metadata.get("protocol") if isinstance(metadata, dict) else None
        if protocol != PROTOCOL:
            raise MessageError(
                f"expected a server that speaks {PROTOCOL!r}, got {protocol!r}; start it with `video2act serve`"
            )
        try:
            names = {each.name for each in fields(cls)}
            known = {name: value for name, value in metadata.items() if name in names}
            return from_json(cls, json.dumps(known), source="metadata")
        except (TypeError, ValueError) as error:
            raise MessageError(
                f"the server speaks {PROTOCOL!r}, but its first message does not fit: {error}"
            ) from error
