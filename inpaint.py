"""The program is `uctgan_jax/programs/inpaint.py`; `--help` says what it does."""

from uctgan_jax.programs.inpaint import main

if __name__ == "__main__":
    main()
