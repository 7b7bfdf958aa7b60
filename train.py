"""The program is `uctgan_jax/programs/train.py`; `--help` says what it does."""

from uctgan_jax.programs.train import main

if __name__ == "__main__":
    main()
