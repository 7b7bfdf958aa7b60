"""The learned prior of a finished model, for `train_prior.py`.

    python train_prior.py --config=configs/prior.py --model=MODEL --workdir=DIR

Pictures and holes are those that the model was trained with unless a field here says otherwise.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.batch_size = 512  # over all devices
    config.num_train_steps = 10_000
    # Pictures whose codes and conditions are computed once and learned from: 7 to 17 KiB each.
    config.num_examples = 300_000
    config.ema_decay = 0.999

    config.prior = ml_collections.ConfigDict()
    config.prior.condition_width = 512  # hidden units that see the condition
    config.prior.width = 256  # hidden units that see the code
    config.prior.num_blocks = 3

    # Precondition the first layer with the inverse covariance of its inputs.
    config.whitening = True
    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 5e-3
    config.optimizer.beta1 = 0.9  # Adam's
    config.optimizer.beta2 = 0.99
    config.optimizer.decay_share = 0.8  # of the steps, the last, in which the rate falls to 0

    config.data = ml_collections.ConfigDict()
    config.data.source = ""  # "" for that of the model
    config.data.dir = ""  # of prepared sets; "" for $TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.data.num_threads = 8
    config.data.cache_gib = 0.0
    config.data.max_corrupt = 100
    config.mask_kind = ""  # of the same region and shares; "" for that of the model

    config.log_every_steps = 50
    config.checkpoint_every_steps = 1_000
    config.sample_every_steps = 1_000
    config.max_nonfinite_steps = 20
    config.parallel = "shard_map"
    config.gradient_accumulation = 1
    return config
