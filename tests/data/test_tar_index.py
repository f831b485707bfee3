"""The index of a large tar file, kept beside it."""

import json
import shutil

import pytest
from support.tars import pack, png, sharded, sources

from cyclegan.data.files import tar_index
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.sources import scan_source

__all__ = ["png", "sharded"]


@pytest.fixture
def kept(tmp_path, png, monkeypatch):
    """The path of a kept index of three images, and a function that checks a new scan."""
    monkeypatch.setattr(tar_index, "MIN_MEMBERS_TO_KEEP", 3)
    pack(tmp_path / "s.tar", {f"{i}.png": png(i) for i in range(3)})
    pack(tmp_path / "small.tar", {"x.png": png()})
    expected = scan_source(tmp_path, index_dir=tmp_path / "kept").files
    (path,) = (tmp_path / "kept").iterdir()
    return path, lambda: scan_source(tmp_path, index_dir=tmp_path / "kept").files == expected


def test_the_index_of_a_large_tar_file_is_read_instead_of_its_headers(kept, monkeypatch):
    _, is_right = kept
    looked = []
    real = tar_index._scan_headers
    monkeypatch.setattr(
        tar_index,
        "_scan_headers",
        lambda shard, p: looked.append(shard.path.name) or real(shard, p),
    )
    assert is_right()
    assert looked == ["small.tar"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-5],
        lambda text: "[]",
        lambda text: text.replace('"members"', '"x"'),
        lambda text: text.replace("[[", "[7, ["),
        lambda text: json.dumps({**json.loads(text), "members": [["a", "b", "c"]]}),
    ],
)
def test_a_damaged_index_is_rewritten(kept, damage):
    path, is_right = kept
    whole = path.read_text()
    path.write_text(damage(whole))
    assert is_right()
    assert path.read_text() == whole


def test_an_index_of_a_changed_tar_file_is_not_used(kept, tmp_path, png):
    pack(tmp_path / "s.tar", {f"{i}.png": png(i) for i in range(4)})
    assert len(scan_source(tmp_path, index_dir=tmp_path / "kept").files) == 5


def test_a_folder_that_cannot_be_made_gets_no_index(kept, tmp_path):
    shutil.rmtree(tmp_path / "kept")
    (tmp_path / "kept").write_text("a file")
    assert kept[1]()


def test_no_index_is_kept_with_cache_off(sharded, monkeypatch):
    monkeypatch.setattr(tar_index, "MIN_MEMBERS_TO_KEEP", 1)
    check_domains(sources(sharded, cache="off"))
    assert not list(sharded.rglob(".cyclegan-cache"))
    check_domains(sources(sharded))
    places = {path.parent for path in sharded.rglob("*.index.json")}
    assert places == {sharded / ".cyclegan-cache", sharded / "trainA/.cyclegan-cache"}
