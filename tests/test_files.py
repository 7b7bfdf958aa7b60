"""Files and folders that are written to."""

import errno
import fcntl
import subprocess
import sys

import pytest

from uctgan_jax.files import held_alone, make_writable


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path):
    make_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc/self", "/dev/null", "/dev/null/below"])
def test_one_that_cannot_is_named(folder, tmp_path):
    with pytest.raises(OSError, match=f"{folder} cannot be written"):
        make_writable(tmp_path / folder)


HOLDER = """
import sys
from pathlib import Path
from uctgan_jax.files import held_alone
with held_alone(Path(sys.argv[1]), busy="busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_another_process_out_until_that_is_gone(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(ValueError, match="it is busy"),
            held_alone(tmp_path / "lock", busy="it is busy"),
        ):
            pass
        holder.kill()
    with held_alone(tmp_path / "lock", busy="it is busy"):
        pass


def test_where_there_are_no_locks_all_are_let_in(tmp_path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with held_alone(tmp_path / "lock", busy=""):
        assert (tmp_path / "lock").exists()
