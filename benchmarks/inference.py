"""Predictions: float32, bfloat16, ONNX and ONNX int8, from JPEG files to answers, and the start of `nla predict`.

    python benchmarks/inference.py                       # 3 to 6 minutes, on models/ and data/valid.parquet
    python benchmarks/inference.py --model FOLDER --data TABLE.parquet --threads 1

All forms are of one model, with the views of its card, on the same number of threads, and get the same images in turns.
ONNX Runtime gets pixels that are ready; *from JPEG* gets encoded images, decodes, checks and classifies them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from interleaved import Measurement, compared, interleave, summary
from records import measured_here, write_record

from nla import Predictor
from nla.commands import export
from nla.data.images import encode_jpeg
from nla.data.samples import Samples, load_samples
from nla.hardware import cores
from nla.models.saved_model import WEIGHTS, read_card

RECORD = "inference"
BATCHES = (1, 64)
SECONDS = 0.7
"""Of a measurement; at batch 64 some 15 passes."""
ROUNDS = 11
STARTS = 10
QUALITY = 95
"""Of the JPEG files, OpenCV's default."""
READY = "onnx fp32"
Classify = Callable[[np.ndarray], np.ndarray]
"""Images [N, H, W, C] -> probabilities [N, classes]."""


def main() -> None:
    """Measures, and writes the record."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    samples, card = load_samples(options.data), read_card(options.model / WEIGHTS)
    predictor = Predictor.load(options.model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        forms = {
            "fp32": by(predictor),
            "bf16": by(Predictor.load(options.model, device="cpu", precision="bf16")),
            READY: exported(options, Path(folder, "fp32.onnx")),
            "onnx int8": exported(options, Path(folder, "int8.onnx"), "--int8", "--calibrate", str(options.data)),
        }
        batches = {str(size): measure(forms, predictor, samples, size) for size in BATCHES}
        record = {
            "command": f"python benchmarks/inference.py --threads {options.threads}",
            "threads": options.threads,
            "source": card["source"],
            "model": card["architecture"],
            "image": [card["image"]["size"], card["image"]["channels"]],
            "views": card["views"],
            "rows": len(samples),
            "rounds": ROUNDS,
            "batches": batches,
            "accuracy": accuracies(forms, samples),
            "start": start(options.model, samples, Path(folder)),
        }
    write_record(RECORD, record | measured_here())


def by(predictor: Predictor) -> Classify:
    """Classifies with NLA's engine."""
    return lambda images_NHWC: predictor.predict_fitted(images_NHWC).probabilities


def exported(options: argparse.Namespace, out: Path, *more: str) -> Classify:
    """Exports the model, and classifies with ONNX Runtime on the same number of threads."""
    export.main([str(out), "--model", str(options.model), *more])
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(out, session_options, providers=["CPUExecutionProvider"])
    return lambda images_NHWC: session.run(["probabilities"], {"images": images_NHWC})[0]


def measure(forms: dict[str, Classify], predictor: Predictor, samples: Samples, size: int) -> dict[str, Any]:
    """Milliseconds a batch of each form, of decoding, and from JPEG; and their ratios to ONNX Runtime alone."""
    files = [encode_jpeg(image.squeeze(), QUALITY) for image in samples.images_NHWC[:size]]
    images_NHWC = predictor.fitted(files)
    things = {name: partial(repeated, partial(classify, images_NHWC)) for name, classify in forms.items()}
    things["decoding"] = partial(repeated, partial(predictor.fitted, files))
    things["from JPEG"] = partial(repeated, partial(predictor.predict, files))
    turns = interleave(things, ROUNDS)
    against = {name: compared(turns, READY, name) for name in things if name != READY}
    for name, result in against.items():
        print(f"batch {size}, {READY} / {name}: {summary(result)}")
    share = compared(turns, "decoding", "from JPEG")
    return {
        "ms": {name: 1000 * statistics.median(each.value for each in turn) for name, turn in turns.items()},
        "against": against,
        "decoding": share,
        "bytes": sum(map(len, files)) / size,
    }


def repeated(work: Callable[[], object]) -> float:
    """Seconds of one call, as the mean over SECONDS; the first call is not counted."""
    work()
    calls, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < SECONDS:
        work()
        calls += 1
    return took / calls


def accuracies(forms: dict[str, Classify], samples: Samples) -> dict[str, dict[str, float]]:
    """Of each form: accuracy on the labels of the table, and its difference from fp32."""
    p = {name: np.concatenate([classify(part) for part in parts(samples)]) for name, classify in forms.items()}
    exact_NC = p["fp32"]
    return {
        name: {
            "accuracy": float((p_NC.argmax(1) == samples.label_N).mean()),
            "same_label": float((p_NC.argmax(1) == exact_NC.argmax(1)).mean()),
            "largest_difference": float(np.abs(p_NC - exact_NC).max()),
        }
        for name, p_NC in p.items()
    }


def parts(samples: Samples) -> Iterator[np.ndarray]:
    """Batches of 64."""
    for first in range(0, len(samples), 64):
        yield samples.images_NHWC[first : first + 64]


def start(model: Path, samples: Samples, folder: Path) -> dict[str, Any]:
    """Seconds of `nla predict` on one crop from start to end, beside `import torch` alone, in turns."""
    face = folder / "face.jpg"
    face.write_bytes(encode_jpeg(samples.images_NHWC[0].squeeze(), QUALITY))
    command = [sys.executable, "-m", "nla.commands.main", "predict", str(face), "--cropped", "--device", "cpu"]
    things = {
        "nla predict": [*command, "--model", str(model), "--out", str(folder / "out.csv")],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    turns = interleave({name: partial(seconds, command) for name, command in things.items()}, STARTS)
    over = [a.value - b.value for a, b in zip(turns["nla predict"], turns["import torch"], strict=True)]
    print(f"nla predict - import torch: {statistics.median(over):.2f} s")
    return {
        "seconds": {name: _median(turn) for name, turn in turns.items()},
        "over": {"median": statistics.median(over), "low": min(over), "high": max(over)},
        "others": [max(a.others, b.others) for a, b in zip(*turns.values(), strict=True)],
    }


def seconds(command: list[str]) -> float:
    """Seconds from start to end of a command."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def _median(turns: list[Measurement]) -> float:
    return statistics.median(turn.value for turn in turns)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--data", type=Path, default=Path("data/valid.parquet"))
    parser.add_argument("--threads", type=int, default=cores(), help="of each form (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
