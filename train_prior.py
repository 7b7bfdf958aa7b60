"""The program is `uctgan_jax/programs/train_prior.py`; `--help` says what it does."""

from uctgan_jax.programs.train_prior import main

if __name__ == "__main__":
    main()
