"""The program is `uctgan_jax/programs/evaluate.py`; `--help` says what it does."""

from uctgan_jax.programs.evaluate import main

if __name__ == "__main__":
    main()
