"""What a served policy takes and gives: the first message of every connection, and what later messages are held against.

Made from the policy's config on the server, read back from that first message on the client. Written out it is the metadata that
openpi's client hands to its user.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from video2act.config import PolicyConfig, StreamConfig, camera_and_lag
from video2act.serving.codec import MessageError

PROTOCOL = "video2act/1"
PLAIN = (str, int, float, bool)
LARGEST_PX, LARGEST_RATIO = 2048, 4
"""of an image's sides: an image is squared before it is reduced, so a long and thin one would take far more than was sent"""


@dataclass(frozen=True)
class ImageRule:
    """Which images of a camera a policy can use; `clips.fit_frames` then makes them what it was trained on."""

    at_least_px: int
    """the longer side: images are averaged down and never enlarged; 1: any size"""

    def check(self, camera: str, height: int, *, width: int) -> None:
        """Raises MessageError if such an image would be refused by the policy, or take more memory than a camera's can."""
        if max(height, width) < self.at_least_px:
            raise MessageError(
                f"camera {camera!r}: the policy takes images of at least {self.at_least_px} px, got {height} x {width}"
            )
        if max(height, width) > min(LARGEST_PX, LARGEST_RATIO * min(height, width)):
            raise MessageError(
                f"camera {camera!r}: an image has at most {LARGEST_PX} px a side, and a side at most {LARGEST_RATIO} times the "
                f"other, got {height} x {width}; reduce it before it is sent"
            )


@dataclass(frozen=True)
class ClipShape:
    """A clip as a stream of System 2 takes it: uint8 `[num_frames height width 3]`."""

    camera: str
    num_frames: int
    stride: int
    height: int
    width: int
    resize: str

    @classmethod
    def of(cls, stream: StreamConfig) -> "ClipShape":
        return cls(stream.camera, stream.num_frames, stream.stride, *stream.frame_px, stream.resize)


@dataclass(frozen=True)
class Contract:
    """What is agreed between a server and its clients."""

    serves: Literal["policy", "system2"]
    """the whole policy, or its slow half alone"""
    cameras: tuple[str, ...]
    """that every observation must hold"""
    image_size: tuple[int, int]
    """height and width in pixels that lose nothing; larger images are reduced by the policy"""
    image_rules: dict[str, ImageRule]
    state_dim: int
    action_dim: int
    horizon: int
    """actions in an answer"""
    execute_steps: int
    """how many of them the policy was made to execute before it plans again"""
    refresh_every: int
    """control steps between two refreshes of System 2"""
    period_s: float
    """seconds between two actions, and between two observations"""
    history_steps: int
    """control steps that the policy looks back; a client that reconnects repeats as many"""
    streams: dict[str, ClipShape]
    """System 2's"""
    instructions: tuple[str, ...] = ()
    """examples: what the policy was told in training"""

    @classmethod
    def of(
        cls, config: PolicyConfig, serves: Literal["policy", "system2"], *, instructions: tuple[str, ...] = ()
    ) -> "Contract":
        """The contract that a policy's config implies."""
        streams = config.system2.streams if config.system2 else ()
        cameras = (
            config.all_cameras if serves == "policy" else tuple(dict.fromkeys(stream.camera for stream in streams))
        )
        seen_by_system1 = {camera_and_lag(camera)[0] for camera in config.cameras} if serves == "policy" else set()
        rules, sizes = {}, [(config.image_px, config.image_px)] if seen_by_system1 else []
        for camera in cameras:
            own = [stream for stream in streams if stream.camera == camera]
            sizes += [stream.frame_px for stream in own]
            reduced = [stream.size_px for stream in own if stream.resize == "area"]
            if camera in seen_by_system1 and config.image_fit == "area":
                reduced.append(config.image_px)
            rules[camera] = ImageRule(max(reduced, default=1))
        lags = [camera_and_lag(camera)[1] for camera in config.cameras] if serves == "policy" else []
        return cls(
            serves=serves,
            cameras=cameras,
            image_size=(max((h for h, _ in sizes), default=0), max((w for _, w in sizes), default=0)),
            image_rules=rules,
            state_dim=config.state_dim,
            action_dim=config.action_dim,
            horizon=config.horizon,
            execute_steps=config.execute_steps,
            refresh_every=config.refresh_every,
            period_s=1 / config.fps,
            history_steps=max([stream.stride * (stream.num_frames - 1) for stream in streams] + lags, default=0),
            streams={stream.name: ClipShape.of(stream) for stream in streams},
            instructions=instructions,
        )

    def to_metadata(self) -> dict[str, Any]:
        """The first message of a connection: plain values, lists for tuples."""
        return {"protocol": PROTOCOL, **_plain(asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Any) -> "Contract":
        """The inverse of `to_metadata`.

        Raises:
            MessageError: another kind of server answered.
        """
        protocol = metadata.get("protocol") if isinstance(metadata, dict) else None
        if protocol != PROTOCOL:
            raise MessageError(
                f"expected a server that speaks {PROTOCOL!r}, got {protocol!r}; start it with `video2act serve`"
            )
        fields = {name: value for name, value in metadata.items() if name != "protocol"}
        try:
            return cls(
                **{
                    **fields,
                    "cameras": tuple(fields["cameras"]),
                    "image_size": tuple(fields["image_size"]),
                    "image_rules": {camera: ImageRule(**rule) for camera, rule in fields["image_rules"].items()},
                    "streams": {name: ClipShape(**shape) for name, shape in fields["streams"].items()},
                    "instructions": tuple(fields["instructions"]),
                }
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise MessageError(
                f"the server's first message says it speaks {PROTOCOL!r}, but it is not complete: {error}"
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    assert isinstance(value, PLAIN), value
    return value
