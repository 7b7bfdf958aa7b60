"""The program is `uctgan_jax/programs/demo.py`; `--help` says what it does."""

from uctgan_jax.programs.demo import main

if __name__ == "__main__":
    main()
