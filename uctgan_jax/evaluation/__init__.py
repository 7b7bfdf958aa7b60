"""Measuring completions.

In the order of reading: `measure` (one picture), `evaluate` (all pictures), `summary` (averages and
figures over sets), `completion` (a model, its checkpoints and other programs), `report` (files).
"""
