"""`python -m uctgan_jax.export`: see `export_model`."""

from uctgan_jax.export.export_model import main

main()
