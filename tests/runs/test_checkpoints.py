"""Checkpoints: classic files, damaged files, and a full disk."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch
from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.networks.generators.resnet import ResnetGenerator
from cyclegan.runs import atomic_files, checkpoints, folder
from cyclegan.runs.checkpoints import CheckpointWriter

NAMES = {"G_AB": "G_A", "G_BA": "G_B", "D_A": "D_B", "D_B": "D_A"}


def network(norm: str = "instance") -> ResnetGenerator:
    return ResnetGenerator(2, blocks=1, norm=norm)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refusal(path: Path) -> str:
    """The one-line message that refuses a file."""
    with pytest.raises(UserError) as error:
        checkpoints.load_weights(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


@pytest.mark.parametrize(("ours", "classic"), NAMES.items())
def test_files_carry_the_classic_names(ours: str, classic: str, tmp_path: Path) -> None:
    layer = nn.Linear(1, 1)
    checkpoints.save_weights(tmp_path, "latest", {ours: layer})
    path = tmp_path / f"latest_net_{classic}.pth"
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(torch.load(path, weights_only=True)["weight"], layer.weight)
    assert checkpoints.weights_path(tmp_path, "latest", ours) == path


def test_a_saved_file_is_a_plain_dictionary_that_torch_loads(tmp_path: Path) -> None:
    network_saved = network()
    checkpoints.save_weights(tmp_path, 5, {"G_AB": network_saved})
    content = torch.load(tmp_path / "5_net_G_A.pth", weights_only=True)
    assert type(content) is dict
    assert not any(value.requires_grad for value in content.values())
    network().load_state_dict(content)
    assert same(content, network_saved.state_dict())


def test_old_running_statistics_of_instance_norm_are_dropped(tmp_path: Path) -> None:
    source, target = network(), network()
    weights = dict(source.state_dict())
    for norm in ("model.2", "model.5", "model.8", "model.10.conv_block.2", "model.12"):
        weights[f"{norm}.running_mean"] = torch.zeros(2)
        weights[f"{norm}.running_var"] = torch.full((2,), float("inf"))
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    path = saved(tmp_path / "x.pth", weights)
    checkpoints.fit_weights(target, checkpoints.load_weights(path), source=path)
    assert same(target.state_dict(), source.state_dict())


def test_batch_norm_keeps_its_running_statistics(tmp_path: Path) -> None:
    source, target = network("batch"), network("batch")
    source(torch.rand(2, 3, 16, 16))
    path = saved(tmp_path / "x.pth", source.state_dict())
    checkpoints.fit_weights(target, checkpoints.load_weights(path), source=path)
    assert same(target.state_dict(), source.state_dict())
    assert target.state_dict()["model.2.num_batches_tracked"] == 1
    assert target.state_dict()["model.2.running_mean"].abs().sum() > 0


def test_instance_norm_that_tracks_its_statistics_keeps_them(tmp_path: Path) -> None:
    source, target = (nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True)) for _ in "ab")
    source(torch.rand(2, 2, 4, 4))
    checkpoints.fit_weights(target, source.state_dict(), source=tmp_path)
    assert same(target.state_dict(), source.state_dict())


def test_weights_saved_from_several_gpus_load(tmp_path: Path) -> None:
    source, target = network(), network()
    path = saved(tmp_path / "x.pth", nn.DataParallel(source).state_dict())
    weights = checkpoints.load_weights(path)
    assert all(not key.startswith("module.") for key in weights)
    checkpoints.fit_weights(target, weights, source=path)
    assert same(target.state_dict(), source.state_dict())


def test_half_precision_weights_load_as_float32(tmp_path: Path) -> None:
    source, target = network().half(), network()
    path = saved(tmp_path / "x.pth", source.state_dict())
    checkpoints.fit_weights(target, checkpoints.load_weights(path), source=path)
    assert {value.dtype for value in target.state_dict().values()} == {torch.float32}
    assert torch.equal(target.model[1].weight, source.model[1].weight.float())


def test_the_old_torch_format_loads(tmp_path: Path) -> None:
    source = network()
    path = tmp_path / "x.pth"
    torch.save(source.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same(checkpoints.load_weights(path), dict(source.state_dict()))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(share: float, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\x80\x02.", b"PK\x03\x04" + b"0" * 99, b"\0" * 4096, b"<!DOCTYPE html><html>"],
)
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    assert "damaged or not a checkpoint" in refusal(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": torch.zeros(1)}}, torch.zeros(2), 3])
def test_a_file_with_anything_but_the_weights_of_one_network_is_refused(
    content: object, tmp_path: Path
) -> None:
    assert "no weights of one network" in refusal(saved(tmp_path / "x.pth", content))


@pytest.mark.parametrize(
    "other", [ResnetGenerator(3, blocks=1), ResnetGenerator(2, blocks=2), nn.Linear(1, 1)]
)
def test_weights_of_another_architecture_are_refused(other: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not fit this network") as error:
        checkpoints.fit_weights(network(), other.state_dict(), source=tmp_path / "x.pth")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    weights = {key: tensor.clone() for key, tensor in network().state_dict().items()}
    weights["model.4.bias"][0] = value
    with pytest.raises(UserError, match=r"not finite \(model\.4\.bias\)"):
        checkpoints.fit_weights(network(), weights, source=tmp_path / "x.pth")


def test_the_message_about_a_missing_epoch_lists_the_others(tmp_path: Path) -> None:
    for epoch in ("latest", 5):
        checkpoints.save_weights(tmp_path, epoch, {"G_AB": nn.Linear(1, 1)})
    checkpoints.save_weights(tmp_path, 7, {"D_A": nn.Linear(1, 1)})
    message = refusal(tmp_path / "9_net_G_A.pth")
    assert message.endswith("--epoch may be 5, latest")


@pytest.mark.parametrize("name", ["x.pth", "a_net_**.pth", "a_net_[.pth", "gone/a_net_G.pth"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path / name)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"progress": {"step": 3}, "pools": [torch.arange(3)], "text": "a"}
    checkpoints.save_state(tmp_path, state, step=3)
    loaded = checkpoints.load_state(tmp_path)
    assert (loaded["progress"], loaded["text"]) == ({"step": 3}, "a")
    assert torch.equal(loaded["pools"][0], torch.arange(3))


def test_the_message_about_a_folder_without_a_state_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="without --continue_train"):
        checkpoints.load_state(tmp_path)


def test_a_file_that_holds_no_state_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "state_00000001.pt", torch.zeros(3))
    with pytest.raises(UserError, match="no state of a run"):
        checkpoints.load_state(tmp_path)


def save_states(folder: Path, *steps: int, keep: int = 3) -> None:
    for step in steps:
        checkpoints.save_state(folder, {"at": step, "w": torch.ones(1000)}, step=step, keep=keep)


def damage(path: Path) -> None:
    """Flips one bit of a weight, which torch alone does not notice."""
    content = bytearray(path.read_bytes())
    content[content.find(torch.ones(4).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_only_the_newest_states_are_kept(tmp_path: Path) -> None:
    save_states(tmp_path, 5, 90, 100_000_000, 7, keep=2)
    names = [path.name for path in folder.find_states(tmp_path)]
    assert names == ["state_100000000.pt", "state_00000090.pt"]


def test_damaged_states_are_passed_over_with_a_warning(tmp_path: Path, said: list[str]) -> None:
    save_states(tmp_path, 10, 20, 30)
    damage(tmp_path / "state_00000030.pt")
    (tmp_path / "state_00000020.pt").write_bytes(b"")
    assert checkpoints.load_state(tmp_path)["at"] == 10
    assert len(said) == 2
    assert said[0].startswith(f"warning: {tmp_path / 'state_00000030.pt'} is damaged")
    assert "checksum" in said[0]
    assert "going on from state_00000010.pt" in said[0]


def test_the_oldest_state_is_named_if_all_are_damaged(tmp_path: Path) -> None:
    save_states(tmp_path, 10)
    damage(tmp_path / "state_00000010.pt")
    with pytest.raises(UserError, match=r"state_00000010.pt is damaged.*checksum"):
        checkpoints.load_state(tmp_path)


def test_later_states_are_renamed_and_not_deleted(tmp_path: Path) -> None:
    save_states(tmp_path, 10, 20)
    checkpoints.set_aside_states(tmp_path, after=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "state_00000010.pt",
        "state_00000020.pt.damaged",
    ]


def test_safetensors_files_keep_weights_and_metadata(tmp_path: Path) -> None:
    source, path = network(), tmp_path / "x.safetensors"
    checkpoints.save_safetensors(path, source.state_dict(), {"network": "G_AB"})
    assert checkpoints.read_metadata(path) == {"network": "G_AB"}
    loaded = checkpoints.load_weights(path)
    assert all(torch.equal(loaded[key], value) for key, value in source.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, (2**62).to_bytes(8, "little")])
def test_damaged_safetensors_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.safetensors is damaged"):
        checkpoints.load_weights(path)


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: IO[bytes]) -> None:
        file.write(b"new, but only half of i")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic_files.write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"new", lambda file: file.write(b"new")])
def test_a_write_replaces_the_file(content: object, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    atomic_files.write_atomically(path, content)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


class FullDisk:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self.file, self.left = file, room

    def write(self, content: bytes) -> int:
        self.left -= len(content)
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Leaves room for so many bytes in each file that torch writes."""
    save = torch.save

    def fill(room: int) -> None:
        monkeypatch.setattr(
            torch, "save", lambda content, file: save(content, FullDisk(file, room))
        )

    return fill


@pytest.mark.parametrize("room", [0, 700, 3000])
def test_a_full_disk_is_an_oserror_and_the_old_weights_stay(
    room: int, tmp_path: Path, fill_disk: Callable[[int], None]
) -> None:
    source = network()
    checkpoints.save_weights(tmp_path, "latest", {"G_AB": source})
    path = tmp_path / "latest_net_G_A.pth"
    old = path.read_bytes()
    fill_disk(room)
    nn.init.zeros_(source.model[1].weight)
    with pytest.raises(OSError, match="No space left") as error:
        checkpoints.save_weights(tmp_path, "latest", {"G_AB": source})
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_the_writer_saves_what_the_networks_held_when_it_was_called(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, step=0, keep=2, metadata={"settings": "{}"})
    networks = {name: nn.Linear(1, 1) for name in NAMES}
    expected = networks["G_AB"].weight.detach().clone()
    state = {"weight": networks["G_AB"].weight, "rate": 0.5}
    writer.save(7, [7, "latest"], networks, state)
    nn.init.constant_(networks["G_AB"].weight, 7)
    writer.check()
    assert writer.step == 7
    assert torch.equal(checkpoints.load_weights(tmp_path / "7_net_G_A.pth")["weight"], expected)
    assert torch.equal(checkpoints.load_state(tmp_path)["weight"], expected)
    shared = tmp_path / "latest_net_G_B.safetensors"
    assert checkpoints.read_metadata(shared) == {"network": "G_BA", "step": "7", "settings": "{}"}
    assert not (tmp_path / "7_net_G_B.safetensors").exists()


def test_the_writer_keeps_one_state_on_a_full_disk_and_reports_the_failure(
    tmp_path: Path, said: list[str], fill_disk: Callable[[int], None]
) -> None:
    save_states(tmp_path, 10, 20, 30)
    writer = CheckpointWriter(tmp_path, step=30, keep=3, metadata={})
    fill_disk(0)
    writer.save(40, ["latest"], {"G_AB": nn.Linear(1, 1)}, {"at": 40})
    with pytest.raises(UserError, match="step 40 could not be saved .*step 30 is whole"):
        writer.check()
    assert [path.name for path in folder.find_states(tmp_path)] == ["state_00000030.pt"]
    assert len(said) == 1
    assert "training goes on and will try again" in said[0]
