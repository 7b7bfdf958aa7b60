"""Completes a picture with an exported model. Needs jax, flatbuffers, numpy and pillow alone.

    python run_exported.py MODEL.stablehlo PICTURE MASK OUTPUT [NUM_SAMPLES] [SEED]

White in the mask is the hole. The picture is brought to the model's size, which OUTPUT/000.png,
OUTPUT/001.png, ... have too.
"""

import sys
from pathlib import Path

import numpy as np
from jax import export
from PIL import Image

if not 5 <= len(sys.argv) <= 7:
    sys.exit(__doc__)
model, picture, mask, output = map(Path, sys.argv[1:5])
num_samples = int(sys.argv[5]) if len(sys.argv) > 5 else 8
seed = int(sys.argv[6]) if len(sys.argv) > 6 else 0

exported = export.deserialize(bytearray(model.read_bytes()))
images_shape, _, codes_shape = (argument.shape for argument in exported.in_avals)
size, code_dim = images_shape[1], codes_shape[2]

image = np.asarray(Image.open(picture).convert("RGB").resize((size, size)))
hole = np.asarray(Image.open(mask).convert("L").resize((size, size))) > 127
codes = np.random.default_rng(seed).standard_normal((1, num_samples, code_dim), np.float32)
completions = exported.call(image[None], hole[None, ..., None].astype(np.uint8), codes)[0]

output.mkdir(parents=True, exist_ok=True)
for number, completion in enumerate(np.asarray(completions)):
    Image.fromarray(completion).save(output / f"{number:03d}.png")
