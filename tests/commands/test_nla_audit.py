"""`nla audit` on real folders and lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from training_parts import Stop

from nla.audit import fold_results
from nla.audit.outputs import NAMES
from nla.audit.table import read_labels
from nla.commands.audit import main
from nla.data.images import decode, encode_png, pixel_hash
from nla.data.samples import Samples
from nla.errors import CommandError, DataError
from nla.limits import MAX_LINE

QUICK = ("--folds", "2", "--epochs", "2", "--size", "16", "--params", "own.yaml")
FILES = ["figures", "index.html", "labels.parquet", "summary.json"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_samples: Callable[..., Samples]) -> Path:
    """faces/{a,b,c}/NN.png, beside a file that is no image."""
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("model: {width: 4}\ntrain: {precision: fp32}\n")
    samples = tiny_samples(36)
    for i, (image, label) in enumerate(zip(samples.images_NHWC, samples.label_N.tolist(), strict=True)):
        path = Path("faces", "abc"[label], f"{i:02}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(image[:, :, 0]))
    return Path("faces")


def test_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    main([str(folder), *QUICK])
    said = capsys.readouterr()
    assert "unreadable images, left out: 1" in said.err and "a/broken.png" in said.err
    assert "labels are probably wrong" in said.out
    assert sorted(path.name for path in Path("audited").iterdir()) == FILES
    info, table = read_labels(Path("audited/labels.parquet"))
    assert (info.classes, info.folds, table.num_rows) == (("a", "b", "c"), 2, 36)
    for path, label, pixels in zip(*(table[name].to_pylist() for name in ("path", "label", "pixels")), strict=True):
        assert path.startswith(f"{label}/")
        assert pixels == pixel_hash(decode((folder / path).read_bytes())).hex()
    report = json.loads(Path("audited/summary.json").read_text())
    assert report["train"]["rows"] == 36 and report["train"].keys() >= {"wrong", "agreement", "clean"}


def test_a_list_gives_what_its_folder_gives(folder: Path) -> None:
    main([str(folder), *QUICK])
    _, of_folder = read_labels(Path("audited/labels.parquet"))
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (folder / "faces.csv").write_text("\ufeff" + "\r\n".join(["image,label", *lines]) + "\r\n")
    main([str(folder / "faces.csv"), "--out", "listed", *QUICK])
    assert read_labels(Path("listed/labels.parquet"))[1].equals(of_folder)


def test_an_interrupted_audit_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main([str(folder), *QUICK])
    _, whole = read_labels(Path("audited/labels.parquet"))

    def stop(self: object, epoch: int, step: int, steps: int, images: int) -> None:
        if epoch == 1:
            raise Stop

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(fold_results.StepsOfFolds, "on_step_end", stop)
        main([str(folder), "--out", "parts", *QUICK])
    assert list(Path("parts/unfinished").glob("*/fold-0/epoch-00001"))
    main([str(folder), "--out", "parts", *QUICK])
    assert read_labels(Path("parts/labels.parquet"))[1].equals(whole)
    assert sorted(path.name for path in Path("parts").iterdir()) == FILES


def test_wrong_lists_and_folders(folder: Path) -> None:
    path = folder / "faces.csv"
    path.write_text("image,label\na/00.png,\n,b\nc/02.png,c\n")
    with pytest.raises(
        DataError, match=r"2 lines cannot be used(.|\n)*line 2: label without(.|\n)*line 3: image without"
    ):
        main([str(path), *QUICK])
    path.write_text("image;label\na/00.png;a\n")
    with pytest.raises(DataError, match=r"no column image, label. Write the columns image and label"):
        main([str(path), *QUICK])
    path.write_text(f"image,label,{'x,' * 1000}\n")
    with pytest.raises(DataError, match=r"1,003 columns, more than"):
        main([str(path), *QUICK])
    path.write_text(f"image,label\n{'a' * MAX_LINE}\n")
    with pytest.raises(DataError, match="a line of more than"):
        main([str(path), *QUICK])
    path.write_text("image,label\nlost.png,a\ngone.png,b\n")
    with pytest.raises(DataError, match="no image can be read"):
        main([str(path), *QUICK])
    path.write_text("image,label\n" + "".join(f"{each.relative_to(folder)},a\n" for each in folder.rglob("*.png")))
    with pytest.raises(DataError, match=r"has only the class a\. Provide two"):
        main([str(path), *QUICK])
    with pytest.raises(DataError, match="not found"):
        main(["nowhere", *QUICK])
    with pytest.raises(CommandError, match=r"--folds: must be at least 2 \(got 1\)"):
        main([str(folder), "--folds", "1"])
    for size in ("15", "0", "-5", "513", "1000000000"):
        with pytest.raises(CommandError, match=rf"--size: must be 16 to 512 pixels \(got {size}\)"):
            main([str(folder), *QUICK, "--size", size])
    assert not Path("audited").exists()


def test_nothing_of_the_user_is_removed(folder: Path) -> None:
    """Though a folder has the name of that of the checkpoints, and another audit is unfinished there."""
    kept = [
        Path("figures/mine.png"),
        Path("unfinished/thesis.txt"),
        Path("unfinished/other/fold-0/epoch-00001/state.json"),
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    main([str(folder), *QUICK, "--out", "."])
    assert all(path.read_text() == "mine" for path in kept)
    assert sorted(path.name for path in Path("unfinished").iterdir()) == ["other", "thesis.txt"]
    assert {path.stem for path in Path("figures").iterdir()} == {"mine", *NAMES}


def test_params_are_used(folder: Path) -> None:
    main([str(folder), *QUICK])
    first = read_labels(Path("audited/labels.parquet"))[0].fingerprint
    Path("own.yaml").write_text("model: {width: 5}\n")
    main([str(folder), *QUICK])
    assert read_labels(Path("audited/labels.parquet"))[0].fingerprint != first
