"""The robot's side: a served policy is a `Policy` like any other, a served System 2 a `Perceiver`."""

from typing import Any

from video2act.refresh_rule import RefreshSpec
from video2act.serving.access import load_api_key
from video2act.serving.link import RemoteError
from video2act.serving.remote_policy import RemotePolicy
from video2act.serving.remote_system2 import RemoteSystem2

__all__ = ["RemoteError", "RemotePolicy", "RemoteSystem2", "connect_system2"]


def connect_system2(address: str, spec: RefreshSpec, **options: Any) -> RemoteSystem2:
    """A System 2 on another machine, with the options of `RemoteSystem2`. The API key is read from
    `VIDEO2ACT_API_KEY`."""
    return RemoteSystem2(address, spec, api_key=load_api_key(None), **options)
