"""What RoboTwin's evaluation script imports: `policy/Video2Act`."""

from .deploy_policy import encode_obs, eval, get_model, reset_model

__all__ = ["encode_obs", "eval", "get_model", "reset_model"]
