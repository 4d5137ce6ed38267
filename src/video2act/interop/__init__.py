"""Weights that other code wrote, read into ours: RDT-1B.

(The package `video2act_released` reads the released Video2Act code's.)
"""
