"""Files and folders that are written to."""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys

import pytest

from uctgan_jax.files import (
    held_alone,
    make_writable,
    read_input,
    remove_leftovers,
    typed_path,
    write_atomically,
)


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


def test_a_folder_is_a_lock_and_stays_empty(tmp_path):
    with held_alone(tmp_path, busy=""):
        with pytest.raises(ValueError, match="it is busy"), held_alone(tmp_path, busy="it is busy"):
            pass
    assert list(tmp_path.iterdir()) == []
    with held_alone(tmp_path, busy=""):
        pass


def test_a_full_disk_is_named_with_the_path(tmp_path):
    with pytest.raises(OSError, match="No space left on device: '.*a.bin'") as caught:
        with write_atomically(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_leftovers_are_those_of_write_atomically(tmp_path):
    (tmp_path / "a.png.12-345.partial").write_bytes(b"")
    (tmp_path / "a.partial").write_bytes(b"")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial"]


def test_home_is_what_a_person_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert typed_path("~/a") == tmp_path / "a"
    assert str(typed_path("a/~x:1")) == "a/~x:1"
    with pytest.raises(ValueError, match="~nobody.here/a: there is no user 'nobody.here'"):
        typed_path("~nobody.here/a")
    (tmp_path / "~x.png").write_bytes(b"")
    assert str(typed_path("~x.png")) == "~x.png"
    with pytest.raises(ValueError, match="is a variable not set"):
        typed_path("")


def test_an_input_may_be_a_pipe(tmp_path):
    read, write = os.pipe()
    os.write(write, b"picture")
    os.close(write)
    file = read_input(f"/dev/fd/{read}")
    os.close(read)
    assert file.data == b"picture" and read_input(file) is file
    assert file.sha256 == hashlib.sha256(b"picture").hexdigest()
    with pytest.raises(FileNotFoundError, match="absent: no such file"):
        read_input(tmp_path / "absent")
