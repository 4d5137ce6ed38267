"""Simulators behind the `Environment` interface, and scripted experts for them.

Importing this package imports no simulator.
"""

from video2act.envs.registry import list_environments, make_environment, make_expert

__all__ = ["list_environments", "make_environment", "make_expert"]
