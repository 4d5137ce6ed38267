"""Simulators behind the `Environment` interface, and scripted experts for them.

Importing this package imports no simulator.
"""

from video2act.envs.registry import has_expert, list_environments, make_environment, make_expert

__all__ = ["has_expert", "list_environments", "make_environment", "make_expert"]
