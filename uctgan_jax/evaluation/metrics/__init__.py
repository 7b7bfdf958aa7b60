"""Measures of completions: pure functions of arrays, one theme a file.

Pictures are float32 [B, H, W, 3] in [-1, 1]; results are float32 [B], one value a picture, never
pooled. Masks are [H, W, 1] or [B, H, W, 1] with 1 = hole.
"""
