"""Every field of a run, with the values of the paper's size: 256 x 256 pictures.

`--config=configs/default.py:64` has those of 64 x 64, and so on: see `MODELS`. The other files here
change a few fields; so does the command line, `--config.batch_size=32`.
"""

import ml_collections

# The networks by picture size: channel widths from the finest map on. README has their cost.
MODELS = {
    32: dict(
        patch_size=2,
        code_dim=32,
        projection_widths=(32, 64, 128),
        encoder_widths=(48, 96, 128),
        generator_widths=(48, 96, 128),
        discriminator_widths=(48, 96, 128),
        generator_blocks=1,
        attention_resolution=16,
        attention_heads=1,
    ),
    64: dict(
        patch_size=2,
        code_dim=64,
        projection_widths=(32, 64, 128, 128),
        encoder_widths=(64, 128, 128, 128),
        generator_widths=(64, 128, 192, 192),
        discriminator_widths=(64, 128, 192, 192),
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
        generator_blocks=1,
        attention_resolution=16,
        attention_heads=4,
    ),
    # Sized for TPUs, see docs/performance.md: patches and widths that fill their matrix units.
    256: dict(
        patch_size=8,
        code_dim=128,
        projection_widths=(256, 256, 256, 256),
        encoder_widths=(256, 256, 256, 256),
        generator_widths=(256, 256, 256, 256),
        discriminator_widths=(256, 256, 256, 256),
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
    config.num_train_steps = 235_000
    config.reconstruction_steps = 120_000  # the first of them: I_r alone, for a third of the cost
    config.prior_steps = 5_000  # the last of them: the conditional prior alone
    config.prior_batch_size = 512  # in those, as each costs a fraction
    config.guide_steps = 0  # the first of those: its guide, from scratch; 0: the prior as it was
    config.prior_examples = 300_000  # that those learn from, encoded once: 7 to 17 KiB each
    # A model to begin with: a workdir, a folder of weights, a bundled name. One for pictures of
    # half the side is grown.
    config.init_from = ""
    config.frozen = ()  # of "projection" (E1) and "encoder" (E2), those that stay as they begin
    config.log_every_steps = 100
    config.checkpoint_every_steps = 5_000
    config.sample_every_steps = 5_000
    config.parallel = "shard_map"  # how the step is spread: "shard_map", "jit" or "pmap"
    config.compute_dtype = "float32"  # or "bfloat16"; parameters stay float32
    config.remat = False  # compute activations again in the backward pass: memory for time
    # Parts that each device takes its share of a batch in, their gradients added up: likewise.
    config.gradient_accumulation = 1
    config.max_nonfinite_steps = 20  # in a row, before training stops

    config.data = ml_collections.ConfigDict()
    config.data.source = "avatars"  # "avatars", "folder:PATH" or "tfds:NAME"
    config.data.dir = ""  # of prepared sets; "" for $TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.data.avatars_examples = (50_000, 2_000, 2_000)  # train, validation, test
    config.data.flip = True  # mirror half of the training pictures
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

    config.model = ml_collections.ConfigDict(MODELS[image_size])
    config.model.prior_condition_width = 512  # hidden units of the prior that see the condition
    # How far codes go past where the guide, the prior before its own steps, carries them; 1: the
    # prior alone. Higher completes more surely, and in the end less diversely.
    config.model.guidance = 2.0

    # The weight of each loss; 0 turns a term off.
    config.loss = ml_collections.ConfigDict()
    config.loss.adversarial = 0.08  # hinge, on both paths
    config.loss.reconstruction = 5.0  # |I_r - I_g| over the whole picture
    config.loss.reconstruction_hole = 20.0  # the same over the hole alone, all that is kept of I_r
    config.loss.reconstruction_square = 0.0  # over the hole, squared: for small parts
    config.loss.known = 10.0  # |I_c - I_g| over the known pixels
    config.loss.manifold = 0.5  # |E1(I_c) - z_c|, the code that I_c was made with
    config.loss.kl = 2e-3  # KL(E1(I) || N(0, I)), nats; how codes lie the prior learns
    config.loss.prior = 1.0  # flow matching of the conditional prior: 0, or it learns

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.generator_learning_rate = 3e-3
    config.optimizer.prior_learning_rate = 8e-3
    config.optimizer.discriminator_learning_rate = 3e-3
    config.optimizer.beta1 = 0.9  # Adam's
    config.optimizer.beta2 = 0.99
    config.optimizer.decay_share = 0.33  # of the steps, the last, in which the rates fall to 0
    config.instance_path = True  # complete with other pictures' codes in training; else an ablation
    config.ema_decay = 0.999

    config.eval = ml_collections.ConfigDict()
    config.eval.num_examples = 1_000
    config.eval.num_samples = 11  # completions of each picture
    config.eval.num_pairs = 50  # of those, for the diversity; all if there are fewer
    config.eval.batch_size = 16
    config.eval.seed = 0
    return config
