"""The robot's side: a served policy is a `Policy` like any other, a served System 2 a slow loop like any other."""

from video2act.refresh_rule import RefreshSpec
from video2act.serving.access import load_api_key
from video2act.serving.link import RemoteError
from video2act.serving.remote_policy import RemotePolicy
from video2act.serving.remote_slow_loop import RemoteSlowLoop

__all__ = ["RemoteError", "RemotePolicy", "RemoteSlowLoop", "connect_system2"]


def connect_system2(
    address: str, spec: RefreshSpec, *, hang_timeout_s: float, first_condition_timeout_s: float = 60.0
) -> RemoteSlowLoop:
    """The slow loop of a policy whose System 2 is on another machine. The API key is read from `VIDEO2ACT_API_KEY`."""
    return RemoteSlowLoop(
        address,
        spec,
        api_key=load_api_key(None),
        answer_timeout_s=hang_timeout_s,
        first_condition_timeout_s=first_condition_timeout_s,
    )
