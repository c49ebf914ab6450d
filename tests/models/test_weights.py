"""First weights from files of every common shape, and files that are none."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save_file

from nla.errors import WeightsError
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.weights import Start, start_from

State = dict[str, torch.Tensor]


def classifier(
    name: str = "resnet18", *, width: int = 4, classes: int = 3, channels: int = 3, seed: int = 0
) -> Classifier:
    torch.manual_seed(seed)
    image = ImageSpec(16, channels, (0.5,) * channels, (0.25,) * channels)
    return Classifier(Architecture(name, width, "stride2", 0.0, classes), image).eval()


def taken(model: Classifier, path: Path) -> Start:
    """The model takes what there is for it, as in training."""
    start = start_from(model, path)
    model.backbone.load_state_dict(start.tensors, strict=False)
    return start


def pretrained(**changes: Any) -> State:
    return classifier(seed=1, **changes).backbone.state_dict()


def renamed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


SHAPES: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "DataParallel under state_dict": lambda state: {"epoch": 3, "state_dict": renamed(state, "module.")},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": renamed(state, "backbone.")},
    "net, two prefixes": lambda state: {"net": renamed(state, "module.model.")},
    "nested": lambda state: {"state_dict": {"model_state_dict": state}},
    "half precision": lambda state: {n: t.half() if t.is_floating_point() else t for n, t in state.items()},
    "without counters": lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pth_file_of_any_shape(tmp_path: Path, shape: str) -> None:
    state, path = pretrained(), tmp_path / "face.pth"
    torch.save(SHAPES[shape](state), path)
    model = classifier()
    start = taken(model, path)
    assert start.skipped == ()
    assert start.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    tolerance = 1e-3 if shape == "half precision" else 0
    for name, tensor in model.backbone.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=tolerance, atol=tolerance)


def test_a_prefix_goes_though_a_head_lies_beside(tmp_path: Path) -> None:
    """As face recognisers are saved: the network with a prefix, and the classifier of people without."""
    state, people = pretrained(), {"margin.weight": torch.zeros(9, 2), "fc.weight": torch.full((3, 32), 7.0)}
    torch.save({"state_dict": people | renamed(state, "module.backbone.")}, tmp_path / "face.pth")
    model = classifier()
    assert taken(model, tmp_path / "face.pth").skipped == ("margin.weight",)
    torch.testing.assert_close(model.backbone.state_dict(), state, rtol=0, atol=0)


def test_names_of_another_kind_are_shown(tmp_path: Path) -> None:
    other = {f"features.{i}": tensor for i, tensor in enumerate(pretrained().values())}
    torch.save(other, tmp_path / "face.pth")
    with pytest.raises(WeightsError, match=r"face\.pth has other tensor names than resnet18") as error:
        taken(classifier(), tmp_path / "face.pth")
    names = "expected conv1.weight, bn1.weight, bn1.bias ... (got features.0, features.1, features.2 ...)"
    assert names in str(error.value)
    assert "width" not in str(error.value)


def test_a_legacy_pth_file(tmp_path: Path) -> None:
    """Files from before PyTorch 1.6, as the MS-Celeb weights in use are."""
    torch.save({"state_dict": pretrained()}, tmp_path / "face.pth", _use_new_zipfile_serialization=False)
    model = classifier()
    taken(model, tmp_path / "face.pth")
    torch.testing.assert_close(model.backbone.state_dict()["conv1.weight"], pretrained()["conv1.weight"])


def test_a_safetensors_file(tmp_path: Path) -> None:
    state = renamed(pretrained(), "module.")
    save_file(state, tmp_path / "face.safetensors")
    model = classifier()
    assert taken(model, tmp_path / "face.safetensors").skipped == ()
    torch.testing.assert_close(model.backbone.state_dict(), pretrained(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["face.pth", "face.safetensors"])
def test_a_resnet50_of_a_face_recogniser(tmp_path: Path, kind: str) -> None:
    """All of it but its classifier of people."""
    state, path, model = pretrained(name="resnet50", classes=8631), tmp_path / kind, classifier("resnet50")
    if path.suffix == ".pth":
        torch.save({"epoch": 9, "state_dict": renamed(state, "module.")}, path)
    else:
        save_file(renamed(state, "backbone."), path)
    assert taken(model, path).skipped == ("fc.bias", "fc.weight")
    after = {name: tensor for name, tensor in model.backbone.state_dict().items() if not name.startswith("fc.")}
    assert len(after) == 318
    torch.testing.assert_close(after, {name: state[name] for name in after}, rtol=0, atol=0)


def test_a_classifier_of_other_classes_starts_from_scratch(tmp_path: Path) -> None:
    state, model = pretrained(classes=1000), classifier()
    torch.save({**state, "extra.weight": torch.zeros(2)}, tmp_path / "face.pth")
    fresh = model.backbone.state_dict()["fc.weight"].clone()
    assert taken(model, tmp_path / "face.pth").skipped == ("extra.weight", "fc.bias", "fc.weight")
    after = model.backbone.state_dict()
    torch.testing.assert_close(after["fc.weight"], fresh, rtol=0, atol=0)
    torch.testing.assert_close(after["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"], rtol=0, atol=0)


def test_a_colour_stem_sees_grey_as_its_three_channels(tmp_path: Path) -> None:
    torch.save(pretrained(), tmp_path / "face.pth")
    grey, colour = classifier(channels=1), classifier()
    taken(grey, tmp_path / "face.pth")
    taken(colour, tmp_path / "face.pth")
    x = torch.randint(0, 256, (2, 16, 16, 1), dtype=torch.uint8, generator=torch.manual_seed(0))
    torch.testing.assert_close(grey(x), colour(x.expand(-1, -1, -1, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"width": 8}, "conv1.weight"),
        ({"channels": 1}, "conv1.weight"),
        ({"name": "resnet50"}, "layer1.0.conv1.weight"),
    ],
)
def test_another_architecture_names_the_first_tensor(tmp_path: Path, changes: dict[str, Any], first: str) -> None:
    torch.save(pretrained(**changes), tmp_path / "face.pth")
    model = classifier()
    before = model.backbone.state_dict()["conv1.weight"].clone()
    message = rf"does not fit.*the first is {re.escape(first)}, \[.*\] instead of \[.*\]\. Set model\.name"
    with pytest.raises(WeightsError, match=message):
        taken(model, tmp_path / "face.pth")
    torch.testing.assert_close(model.backbone.state_dict()["conv1.weight"], before, rtol=0, atol=0)


@pytest.mark.parametrize("smaller", ["resnet18", "resnet34"])
def test_a_smaller_network_has_the_names_of_a_part(tmp_path: Path, smaller: str) -> None:
    """To save it under other names, as a file of another kind, would not help."""
    torch.save(pretrained(name=smaller), tmp_path / "face.pth")
    with pytest.raises(WeightsError, match=r"does not fit .*'resnet50'.* layer1\.0\.conv1\.weight, .*Set model\.name"):
        taken(classifier("resnet50"), tmp_path / "face.pth")


def test_a_layer_that_lacks_is_named(tmp_path: Path) -> None:
    state = pretrained()
    del state["layer3.0.bn2.running_var"]
    torch.save(state, tmp_path / "face.pth")
    with pytest.raises(WeightsError, match=r"1 of 122 tensors .* first is layer3\.0\.bn2\.running_var \[16\]\. Set"):
        taken(classifier(), tmp_path / "face.pth")


class Malicious:
    """Makes a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_malicious_pickle_is_not_executed(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    save({"state_dict": Malicious(tmp_path / "pwned")}, tmp_path / "face.pth")
    with pytest.raises(WeightsError, match="which is not loaded: it could run code"):
        taken(classifier(), tmp_path / "face.pth")
    assert not (tmp_path / "pwned").exists()
    with (tmp_path / "face.pth").open("rb") as file:  # it would have been
        torch.load(file, weights_only=False) if save is torch.save else pickle.load(file)
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", ["face.pth", "legacy.pth", "face.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_off(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / kind
    if path.suffix == ".pth":
        torch.save(pretrained(), path, _use_new_zipfile_serialization=kind != "legacy.pth")
    else:
        save_file(pretrained(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(WeightsError, match=rf"{kind}:? (cannot be read|the file is damaged|is empty|is a pick|holds)"):
        taken(classifier(), path)


@given(st.binary(max_size=64))
@example(b"")
@example(b"\x80\x02.")  # ends with an empty stack
@example(b"\x80\x02h\x01.")  # a memo that was never put
@example(b"\x80\x02K\x01s.")
def test_bytes_of_any_kind_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "face.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.weights: "):
        taken(classifier(), path)


@pytest.mark.parametrize("content", [{"epoch": 3}, torch.zeros(3), [1, 2], {}])
def test_no_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "face.pth")
    with pytest.raises(WeightsError, match="has no state dict"):
        taken(classifier(), tmp_path / "face.pth")


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"file not found \(got .*face\.pth\)\. Give a local file, or null"):
        taken(classifier(), tmp_path / "face.pth")


def write_module(path: Path) -> None:
    torch.save({"net": torch.nn.Linear(2, 2)}, path)


def write_legacy_module(path: Path) -> None:
    torch.save({"net": torch.nn.Linear(2, 2)}, path, _use_new_zipfile_serialization=False)


def write_namespace(path: Path) -> None:
    torch.save({"state_dict": pretrained(), "args": argparse.Namespace(lr=1)}, path)


def write_script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # what makes PyTorch take an archive for a program
        archive.writestr("face/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("face/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("face/version", "3")


CONTENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), r"is empty\. Download it again"),
    "Git LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7\nsize 9\n"),
        r"is a Git LFS pointer\. Run `git lfs pull`",
    ),
    "web page": (
        lambda path: path.write_text("\n<!DOCTYPE html>\n<html>"),
        r"is a web page \(HTML\)\. Download",
    ),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n\0\0"), r"cannot be read: .*not in PyTorch's format"),
    "module": (
        write_module,
        r"holds the Python object torch\.nn\.modules\.linear\.Linear, .*from their author",
    ),
    "legacy module": (write_legacy_module, r"holds the Python object torch\.nn\.modules\.linear\.Linear, "),
    "arguments": (write_namespace, r"holds the Python object argparse\.Namespace, .*only a state dict"),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps(pretrained())),
        r"holds the Python object collections\.OrderedDict, .*only a state dict",
    ),
    "pickled arguments": (
        lambda path: path.write_bytes(pickle.dumps({"args": argparse.Namespace(lr=1)}, protocol=4)),
        r"holds the Python object argparse\.Namespace, .*only a state dict",
    ),
    "text pickle": (
        lambda path: path.write_bytes(pickle.dumps({"args": argparse.Namespace(lr=1)}, protocol=0)),
        r"holds the Python object copy_reg\._reconstructor, .*only a state dict",
    ),
    "program": (write_script, r"is a TorchScript program, .*only a state dict"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_not_weights_is_named_and_never_recommended_to_be_loaded(tmp_path: Path, kind: str) -> None:
    write, problem = CONTENTS[kind]
    write(tmp_path / "face.pth")
    with pytest.raises(WeightsError, match=rf"^model\.weights: .*face\.pth {problem}") as raised:
        taken(classifier(), tmp_path / "face.pth")
    assert not re.search("weights_only|trust|safe_globals|\\n", str(raised.value))


@pytest.mark.parametrize("name", ["face.pth", "face.safetensors"])
def test_a_pointer_is_recognised_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match=rf"{name} is a Git LFS pointer"):
        taken(classifier(), tmp_path / name)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.weights: folder not found \(got .*weights/face\.pth\)\. Give"):
        taken(classifier(), tmp_path / "weights/face.pth")
    with pytest.raises(WeightsError, match=r"model\.weights: is a folder"):
        taken(classifier(), tmp_path)
