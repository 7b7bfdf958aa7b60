"""Mistakes on the command line."""

import sys

import pytest
from absl import app

from uctgan_jax import command_line


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("'zzz'", "configs/default.py has them all."),
        ("'zzz'\nDid you mean \"zz\"?", 'configs/default.py has them all. Did you mean "zz"?'),
    ],
)
def test_a_field_that_no_config_has_is_one_line(monkeypatch, cause, said):
    def parse(argv):
        raise AttributeError(KeyError(cause))  # as ml_collections does

    monkeypatch.setattr(app, "parse_flags_with_usage", parse)
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "--config.zzz=3"])
    with pytest.raises(SystemExit) as end:
        command_line.run(lambda argv: None)
    assert end.value.code == f"train.py: --config has no field 'zzz': {said}"
