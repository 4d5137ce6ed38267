"""Simulators behind the `Environment` interface, and scripted experts for them.

Importing this package imports no simulator.
"""

from video2act.envs.registry import (
    expand_suites,
    has_expert,
    is_own,
    is_simulated,
    list_environments,
    make_environment,
    make_expert,
    num_scenes,
)

__all__ = [
    "expand_suites",
    "has_expert",
    "is_own",
    "is_simulated",
    "list_environments",
    "make_environment",
    "make_expert",
    "num_scenes",
]
