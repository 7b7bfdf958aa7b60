"""The networks of UCTGAN as pure Linen modules of plain fields."""

from uctgan_jax.nets.networks import Networks, build_networks
from uctgan_jax.nets.projection import sample_code

__all__ = ["Networks", "build_networks", "sample_code"]
