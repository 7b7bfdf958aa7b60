"""Folders of pictures: what is found, what it is called, and what is left out."""

import os
from pathlib import Path

import pytest

from uctgan_jax.picture_folders import PictureIndex, describe, pictures_under


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def look(folder):
    left_out = []
    found = [file.relative_to(folder).as_posix() for file in pictures_under(folder, left_out)]
    return found, {item.path.relative_to(folder).as_posix(): item for item in left_out}


def test_every_file_is_found_or_named(tmp_path):
    pictures = ("a.JPG", "b.jfif", "c.heic", "d.avif", "e.jp2", "f.gif", "~x.png", "in/x:1.png")
    make(tmp_path, *pictures, "notes.txt", "no_ending", ".hidden.png", ".cache/thumb.png")
    os.symlink("nowhere.png", tmp_path / "broken.png")
    os.mkfifo(tmp_path / "pipe.png")
    found, left_out = look(tmp_path)
    assert found == sorted(pictures[:-1]) + [pictures[-1]]
    assert {name: (item.reason, item.is_lost) for name, item in left_out.items()} == {
        "notes.txt": ("not a picture by its ending", False),
        "no_ending": ("not a picture by its ending", False),
        ".hidden.png": ("hidden", False),
        ".cache": ("hidden", False),
        "broken.png": ("a broken link", True),
        "pipe.png": ("not a file", True),
    }
    line = "2 left out, not a picture by its ending: "
    assert line in describe(list(left_out.values()))


def test_links_are_followed_and_loops_are_not(tmp_path):
    make(tmp_path / "elsewhere", "a.png", "deep/b.png")
    make(tmp_path / "folder", "c.png")
    os.symlink("../elsewhere", tmp_path / "folder" / "linked")
    os.symlink("../elsewhere/a.png", tmp_path / "folder" / "d.png")
    os.symlink("../folder", tmp_path / "elsewhere" / "back")
    found, left_out = look(tmp_path / "folder")
    assert found == ["c.png", "d.png", "linked/a.png", "linked/deep/b.png"]
    assert [(name, item.reason) for name, item in left_out.items()] == [
        ("linked/back", "a link to a folder that it lies in")
    ]


def test_a_folder_that_cannot_be_read_is_lost(tmp_path, monkeypatch):
    make(tmp_path, "a.png", "shut/b.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, left_out = look(tmp_path)
    assert found == ["a.png"]
    assert left_out["shut"].is_lost and "Permission denied" in left_out["shut"].reason


def test_index_finds_by_name(tmp_path):
    make(tmp_path, "a.png", "in/b.webp", "in/b_mask.png", "cafe\u0301/c.png")
    index = PictureIndex(tmp_path)
    assert index.find("a") == tmp_path / "a.png"
    assert index.find("in/b") == tmp_path / "in" / "b.webp"
    assert index.find("caf\u00e9/c") == tmp_path / "cafe\u0301" / "c.png"
    assert index.find("in") is None and index.find("nowhere/b") is None
    assert index.find_mask("a") == tmp_path / "a.png"
    (tmp_path / "in" / "b.webp").unlink()
    assert PictureIndex(tmp_path).find_mask("in/b") == tmp_path / "in" / "b_mask.png"
    make(tmp_path, "a.gif")
    with pytest.raises(ValueError, match="a.gif and .*a.png have the same name"):
        PictureIndex(tmp_path).find("a")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        PictureIndex(tmp_path / "nowhere")
