"""Every field of a training run, with the values for photographs at 256 px.

`--config=configs/default.py:64` has the networks for 64 px; `MODELS` lists the sides. The other
files here change a few fields; `configs/paper.py` is the paper's method alone. The command line
changes fields too: `--config.batch_size=32`.
"""

import ml_collections

# The networks by picture size: channel widths from the finest map on. docs/scaling.md has their
# cost.
MODELS = {
    32: dict(
        patch_size=2,
        code_dim=32,
        projection_widths=(32, 64, 128),
        encoder_widths=(48, 96, 128),
        generator_widths=(48, 96, 128),
        discriminator_widths=(48, 96, 128),
        discriminator_patch_size=2,
        discriminator_head_width=64,
        generator_blocks=1,
        attention_resolution=16,
        attention_heads=1,
    ),
    64: dict(
        patch_size=2,
        code_dim=64,
        projection_widths=(48, 64, 96, 96),
        encoder_widths=(48, 64, 96, 128),
        generator_widths=(64, 96, 128, 128),
        discriminator_widths=(64, 96, 128),
        discriminator_patch_size=4,
        discriminator_head_width=64,
        generator_blocks=1,
        attention_resolution=16,
        attention_heads=2,
    ),
    128: dict(
        patch_size=4,
        code_dim=64,
        projection_widths=(64, 128, 256, 256),
        encoder_widths=(64, 128, 256, 256),
        generator_widths=(128, 256, 256, 256),
        discriminator_widths=(128, 256, 256, 256),
        discriminator_patch_size=4,
        discriminator_head_width=64,
        generator_blocks=1,
        attention_resolution=16,
        attention_heads=4,
    ),
    # Sized for TPUs, see docs/scaling.md: patches and widths that fill their matrix units.
    256: dict(
        patch_size=8,
        code_dim=128,
        projection_widths=(256, 256, 256, 256),
        encoder_widths=(256, 256, 256, 256),
        generator_widths=(256, 256, 256, 256),
        discriminator_widths=(256, 256, 256, 256),
        discriminator_patch_size=8,
        discriminator_head_width=64,
        generator_blocks=1,
        attention_resolution=16,
        attention_heads=1,
    ),
}


def get_config(image_size: int | str = 256) -> ml_collections.ConfigDict:
    """The configuration of a run on pictures of one of the sizes in `MODELS`."""
    if str(image_size) not in map(str, MODELS):
        raise ValueError(f"image size ({image_size}) must be one of {', '.join(map(str, MODELS))}")
    image_size = int(image_size)
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.image_size = image_size
    config.batch_size = 64  # over all devices
    config.num_train_steps = 200_000
    # The first of them: E1, E2 and G learn from I_r alone, for a third of the cost.
    config.reconstruction_steps = 0
    # A model to begin with: a workdir, a folder of weights, a bundled name. One for pictures of
    # half the side is grown.
    config.init_from = ""
    config.instance_path = True  # complete with other pictures' codes in training; else an ablation
    # Strength of random changes of colour in what E1 sees: colours come from the condition.
    config.colour_jitter = 1.0
    config.augment = True  # D sees pictures in changed colours and shifted (DiffAugment)
    config.ema_decay = 0.999
    config.compute_dtype = "float32"  # or "bfloat16"; parameters stay float32

    config.model = ml_collections.ConfigDict(MODELS[image_size])

    # The weight of each loss; 0 turns a term off.
    config.loss = ml_collections.ConfigDict()
    config.loss.reconstruction = 0.0  # |I_r - I_g| over the whole picture
    config.loss.reconstruction_hole = 1.0  # the same over the hole alone, all that is kept of I_r
    config.loss.reconstruction_square = 0.0  # over the hole, squared: for small parts
    config.loss.perceptual = 2.0  # LPIPS (AlexNet) of the completed I_r
    config.loss.condition_l1 = 1.0  # |I_c - I_g| over the known pixels
    config.loss.manifold_l1 = 0.5  # |E1(I_c) - z_i|, the code that I_c was made with
    config.loss.kl = 3e-4  # KL(E1(I) || N(0, I)), nats
    config.loss.adversarial = 0.2  # relativistic, on both paths
    config.loss.gradient_penalty = 0.5  # R1 + R2 of D

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "adam"  # or "muon": docs/training.md says where it pays
    config.optimizer.generator_learning_rate = 5e-4  # of E1, E2 and G
    config.optimizer.discriminator_learning_rate = 4e-4
    config.optimizer.beta1 = 0.0  # Adam's
    config.optimizer.beta2 = 0.99
    config.optimizer.decay_share = 0.33  # of the steps, the last, in which the rates fall to 0

    config.data = ml_collections.ConfigDict()
    config.data.source = "folder:data/pictures"  # "folder:PATH", "tfds:NAME" or "avatars"
    config.data.dir = ""  # of prepared sets; "" for $TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.data.avatars_examples = (50_000, 2_000, 2_000)  # train, validation, test
    config.data.flip = True  # mirror half of the training pictures
    # Half of them are cut to a square anywhere in them and enlarged by up to so much; 1 for none.
    # So things are known at other places and scales, as in pictures that nobody has aligned.
    config.data.zoom = 1.0
    config.data.num_threads = 8
    config.data.cache_gib = 2.0  # of each process: training pictures kept in memory once read
    config.data.max_corrupt = 100  # damaged pictures to step over, per process, before stopping

    config.mask = ml_collections.ConfigDict()
    # One of uctgan_jax.data.masks.MASK_KINDS or several ("free_form,box"), or mask files:
    # "folder:PATH" or "paired:PATH".
    config.mask.kind = "center"
    config.mask.hole_share = (0.25, 0.25)  # of the picture's area, from, to
    config.mask.region = (0.0, 0.0, 1.0, 1.0)  # top, left, bottom, right: where holes may lie
    config.mask.convention = "white_is_hole"  # in mask files; or "black_is_hole"

    config.log_every_steps = 100
    config.checkpoint_every_steps = 5_000
    config.sample_every_steps = 5_000
    config.max_nonfinite_steps = 20  # in a row, before training stops
    config.parallel = "shard_map"  # how the step is spread: "shard_map", "jit" or "pmap"
    config.remat = False  # compute activations again in the backward pass: memory for time
    # Parts that each device takes its share of a batch in, their gradients added up: likewise.
    config.gradient_accumulation = 1

    config.eval = ml_collections.ConfigDict()
    config.eval.num_examples = 1_000
    config.eval.num_samples = 11  # completions of each picture
    config.eval.num_pairs = 50  # of those, for the diversity; all if there are fewer
    config.eval.batch_size = 16
    config.eval.seed = 0
    return config
