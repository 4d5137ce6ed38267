"""The robot's side: a served policy is a `Policy`, a served System 2 is a slow loop, and the control loop does not
know."""

from video2act.refresh_rule import RefreshSpec
from video2act.serving.access import load_api_key
from video2act.serving.link import RemoteError
from video2act.serving.remote_policy import RemotePolicy
from video2act.serving.remote_slow_loop import RemoteSlowLoop

__all__ = ["RemoteError", "RemotePolicy", "RemoteSlowLoop", "connect_system2"]


def connect_system2(address: str, spec: RefreshSpec, *, hang_timeout_s: float) -> RemoteSlowLoop:
    """The slow loop of a policy whose System 2 is served elsewhere; the API key, if one is needed, is
    `VIDEO2ACT_API_KEY`."""
    return RemoteSlowLoop(address, spec, api_key=load_api_key(None), answer_timeout_s=hang_timeout_s)
