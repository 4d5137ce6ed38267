"""The fast system: conditions -> actions."""

from video2act.system1.system1 import System1, Visibility

__all__ = ["System1", "Visibility"]
