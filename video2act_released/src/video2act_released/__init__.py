"""Checkpoints of the released Video2Act code -> run folders of `video2act`."""
