"""The programs: `uctgan-train` and the others, or `train.py` and the others of a checkout."""
