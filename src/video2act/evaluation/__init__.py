"""Evaluation: episodes, what may be evaluated, findings and their report."""
