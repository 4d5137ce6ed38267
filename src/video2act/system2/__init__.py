"""The slow system: video -> tokens."""

from video2act.system2.system2 import System2, load_system2

__all__ = ["System2", "load_system2"]
