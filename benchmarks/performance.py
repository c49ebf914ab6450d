"""The records of step, usual, compute, data, inference and others -> docs/performance.md and its figures.

python benchmarks/performance.py
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from interleaved import CALM
from matplotlib.figure import Figure
from records import RECORDS, ROOT, conditions, read_record

from nla.plotting import BLUE, FAINT, GREEN, ORANGE, VERMILLION, headline, percent_axis, styled, write_figure

PAGE, FIGURES = ROOT / "docs/performance.md", ROOT / "docs/figures"
TARGETS = {"48": 0.90, "112": 0.95, "224": 0.95}
KINDS = {"convolution": BLUE, "BatchNorm": GREEN, "ReLU and additions": ORANGE, "optimiser": VERMILLION, "other": FAINT}


def main() -> None:
    """Writes the page and its figures."""
    PAGE.write_text(page())
    for name, draw in {"shares": shares_figure, "growth": growth_figure}.items():
        write_figure(draw(), FIGURES / f"performance-{name}.png")


def page() -> str:
    """Text of docs/performance.md."""
    sections = [
        step(),
        usual(),
        networks(),
        small(),
        compiled(),
        ferplus(),
        growth(),
        loader(),
        from_a_file(),
        *inference(),
        everyday(),
        hostile_requests(),
    ]
    parts = ["# Performance", "", INTRODUCTION.format(calm=CALM)]
    parts += [line for section in sections if section for line in ("", *section)]
    return "\n".join(parts) + "\n"


def step() -> list[str]:
    """Section: the step against its limit."""
    records = {name: read_record(f"step-{name}") for name in TARGETS if _has(f"step-{name}")}
    rows = [
        [
            f"{name} px, {'RGB' if r['image'][2] == 3 else 'grey'}",
            f"width {r['model']['width']}, {r['model']['stem']}, batch {r['batch_size']}",
            f"{r['batch_size'] / statistics.median(r['limit']):.1f}",
            f"{r['batch_size'] / statistics.median(r['end_to_end']):.1f}",
            *_ratio(r),
            f"{TARGETS[name]:.2f}",
        ]
        for name, r in records.items()
    ]
    rates = ["limit, samples/s", "end to end, samples/s"]
    head = ["images", "resnet18", *rates, "ratio", "spread", "rounds, calm", "target"]
    lines = _section("The step against its limit", STEP_TEXT, head, rows, records.values())
    return lines + (["", *_around(read_record("step-around"))] if _has("step-around") else [])


def _around(record: dict[str, Any]) -> list[str]:
    """Table of what happens outside the steps."""
    rows = [
        [
            f"{name} px",
            f"{record[name]['before_first_step_in_steps']:.1f} steps",
            f"{record[name]['validation_of_training']:.1%} of the training",
            f"{record[name]['checkpoint_in_steps']:.1f} steps",
        ]
        for name in TARGETS
    ]
    head = ["outside the steps", "before the first step, once", "validation, per epoch", "checkpoint, per epoch"]
    note = "With one validation image for three training images, as in `params.yaml`; without Ray, n = 1:"
    return [f"{note} `{record['command']}`", "", *_table(head, rows)]


def usual() -> list[str]:
    """Section: against the usual loop."""
    if not _has("usual"):
        return []
    record = read_record("usual")
    rows = [
        [
            f"{name.removeprefix('usual_')} loading processes",
            f"{record['batch_size'] / statistics.median(r[name]):.1f}",
            f"{record['batch_size'] / statistics.median(r['nla']):.1f}",
            *_ratio(r),
        ]
        for name, r in record["against"].items()
    ]
    head = ["the usual loop with", "its samples/s", "NLA's samples/s", "ratio", "spread", "rounds, calm"]
    reached = read_record("compute-networks")["rows"]["112 px"]["of_peak"]["ratio"]
    best = max(result["ratio"] for result in record["against"].values()) / reached
    return _section("Against the usual loop", USUAL_TEXT.format(reached=reached, best=best), head, rows, [record])


def networks() -> list[str]:
    """Section: fraction of the peak that each network reaches, and where its time goes."""
    if not (_has("compute-networks") and _has("compute-profile")):
        return []
    record, profile = read_record("compute-networks"), read_record("compute-profile")
    lines = _section("Fraction of the processor's peak", NETWORKS_TEXT, COMPUTE_HEAD, _efficiency(record), [record])
    shown = [[name, *(f"{shares.get(kind, 0):.0%}" for kind in KINDS)] for name, shares in profile["shares"].items()]
    picture = "![Shares of a step's time by kind of operation](figures/performance-shares.png)"
    return [*lines, "", picture, "", *_table(["px", *KINDS], shown), "", f"`{profile['command']}`"]


def small() -> list[str]:
    """Section: what changes this fraction at 48 px."""
    return _compute("compute-small", "What raises the fraction at 48 px", SMALL_TEXT)


def compiled() -> list[str]:
    """Section: the effect of torch.compile."""
    return _compute("compute-compiled", "torch.compile at 48 px", COMPILED_TEXT)


def _compute(name: str, title: str, text: str) -> list[str]:
    if not _has(name):
        return []
    record = read_record(name)
    return _section(title, text, COMPUTE_HEAD, _efficiency(record), [record])


def ferplus() -> list[str]:
    """Section: FERPlus into tables."""
    if not _has("data-ferplus"):
        return []
    record = read_record("data-ferplus")
    against = record["against_csv"]
    rows = [
        ["ingest", f"{_calmest(against['ingest'], against['others']):.1f} s"],
        ["prepare", f"{_median(record['prepare']):.1f} s"],
        ["the csv module, a row at a time", f"{_calmest(against['plain'], against['others']):.1f} s"],
        ["the csv module / ingest", " ".join(_ratio(against)[:2])],
        ["peak memory", f"{record['peak_mib']:.0f} MiB"],
    ]
    return _section("FERPlus into tables", FERPLUS_TEXT, ["", "35,887 rows"], rows, [record])


def growth() -> list[str]:
    """Section: files into a table, by number of files."""
    if not _has("data-growth"):
        return []
    record = read_record("data-growth")
    sizes = {int(rows): row for rows, row in record["rows"].items()}
    first = min(sizes)
    unit = _median(sizes[first]["turns"]) / first
    rows = [
        [
            f"{n:,}",
            f"{_median(row['turns']):.1f} s",
            f"{n / _median(row['turns']):,.0f}",
            f"{_median(row['turns']) / n / unit:.2f}",
            f"{row['peak_mib']:.0f} MiB",
        ]
        for n, row in sizes.items()
    ]
    head = ["files", "ingest", "files/s", f"time per file, relative to {first:,} files", "peak memory"]
    lines = _section("A tree of files into a table", GROWTH_TEXT, head, rows, [record])
    lines += ["", "![Time and peak memory by the number of files](figures/performance-growth.png)"]
    if "against" not in record:
        return lines
    size = record["others_size"]
    names = {"dvc": "`dvc add`: only hashes", "datasets": "Hugging Face datasets: bytes into Arrow"}
    others = [
        [names[key], f"{_calmest(r[key], r['others']):.1f} s", *_ratio(r)] for key, r in record["against"].items()
    ]
    table = _table([f"{size:,} files", "time", "relative to ingest", "spread", "rounds, calm"], others)
    return [*lines, "", OTHERS_TEXT, "", *table]


def loader() -> list[str]:
    """Section: images per second in batches."""
    if not _has("data-loader"):
        return []
    record = read_record("data-loader")
    rows = []
    for name, result in record["against"].items():
        ours = f"nla {name.split()[1]}"
        rates = [f"{_median(record['rates'][key]):,.0f}" for key in (name, ours)]
        kind, change, processes = name.split()
        what = {"files": "DataLoader over files", "datasets": "Hugging Face datasets"}[kind]
        rows.append([what, change, processes, *rates, *_ratio(result)])
    head = ["against", "augmentation", "processes", "its images/s", "NLA's images/s", "ratio", "spread", "rounds, calm"]
    lines = _section("Batches", LOADER_TEXT, head, rows, [record])
    return [*lines[:-1], f"datasets {record['datasets']}; {lines[-1]}"]


def from_a_file() -> list[str]:
    """Section: batches of a set larger than memory."""
    if not _has("data-mapped"):
        return []
    record = read_record("data-mapped")
    names = {"file": "a mapped file, in memory", "forgotten": "a mapped file, not in memory"}
    rows = [[names[key], f"{_calmest(r[key], r['others']):,.0f}", *_ratio(r)] for key, r in record["against"].items()]
    head = ["images are in", "images/s", "relative to memory", "spread", "rounds, calm"]
    return _section("Sets larger than memory", MAPPED_TEXT, head, rows, [record])


def inference() -> list[list[str]]:
    """Sections: predictions in all forms, and the start of the command."""
    if not _has("inference"):
        return []
    record = read_record("inference")
    rows = []
    for name in (READY, *(name for name in record["batches"]["64"]["ms"] if name not in (READY, "decoding"))):
        row = [FORMS[name]]
        for size, result in record["batches"].items():
            ms = result["ms"][name]
            row += [f"{ms:.2f}", f"{1000 * int(size) / ms:,.0f}"]
        row += _ratio(record["batches"]["64"]["against"][name]) if name != READY else ["1", "", ""]
        found = record["accuracy"].get(name)
        rows.append([*row, *([f"{found['accuracy']:.2%}", f"{found['same_label']:.2%}"] if found else ["", ""])])
    head = [f"{what}, batch {size}" for size in record["batches"] for what in ("ms", "images/s")]
    text = INFERENCE_TEXT.format(
        rows=record["rows"], source=SOURCE[record["source"]], decoding=record["batches"]["64"]["decoding"]["ratio"]
    )
    head = ["", *head, "speed at 64 / ONNX", "spread", "rounds, calm", "accuracy", "label of fp32"]
    lines = _section("Predictions", text, head, rows, [record])
    begun, over = record["start"]["seconds"], record["start"]["over"]
    starts = [[f"`{name}`", f"{seconds:.2f} s"] for name, seconds in begun.items()]
    starts.append(["difference", f"**{over['median']:.2f} s** ({over['low']:.2f} to {over['high']:.2f})"])
    return [[*lines, "", START_TEXT, "", *_table(["", f"median of {len(record['start']['others'])}"], starts)]]


def everyday() -> list[str]:
    """Section: costs that occur many times a day."""
    if not _has("everyday"):
        return []
    record = read_record("everyday")
    rows = [[name, f"{seconds:.2f} s"] for name, seconds in record["seconds"].items()]
    loads = [[name, ", ".join(heavy) or "none"] for name, heavy in record["loads"].items()]
    ratios = [[name, *_ratio(r)] for name, r in record["against"].items()]
    lines = _section("Everyday costs", EVERYDAY_TEXT, ["", "start to end, median"], rows, [record])
    lines += ["", *_table(["", "ratio", "spread", "rounds, calm"], ratios)]
    return [*lines, "", *_table(["import", "heavy libraries loaded"], loads)]


def hostile_requests() -> list[str]:
    """Section: a model server under requests that would exhaust its memory."""
    if not _has("hostile-requests"):
        return []
    record = read_record("hostile-requests")
    seconds, good, hostile = record["refusal_seconds"], record["good"], record["hostile"]
    rows = [
        ["a refusal, median", f"{statistics.median(seconds):.3f} s", "0.2 s"],
        ["a refusal, longest", f"{max(seconds):.3f} s", ""],
        ["growth of the server's memory", f"{record['growth_mb']:.0f} MB", "100 MB"],
        ["the same beside good requests", f"{record['growth_under_attack_mb']:.0f} MB", "100 MB"],
        ["good requests answered", f"{good['answered']} of {good['requests']}", "all"],
        ["hostile requests refused meanwhile", f"{hostile['refused']} of {hostile['requests']}", "all"],
    ]
    image = {"size": record["image"]["bytes"] / 1e6, "pixels": record["image"]["pixels"] / 1e6, "n": len(seconds)}
    return _section("Hostile requests", HOSTILE_TEXT.format(**image), ["", "measured", "target"], rows, [record])


@styled
def shares_figure() -> Figure:
    """Where a step's time goes."""
    shares = read_record("compute-profile")["shares"]
    figure = Figure(figsize=(7.5, 2.9), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(shares))
    for kind, color in KINDS.items():
        parts = np.array([row.get(kind, 0.0) for row in shares.values()])
        axes.barh(range(len(shares)), parts, left=left, color=color, height=0.62, label=kind)
        left += parts
    axes.set_yticks(range(len(shares)), [f"{name} px" for name in shares])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1))
    percent_axis(axes.xaxis)
    axes.tick_params(axis="y", length=0)
    axes.legend(ncols=len(KINDS), loc="lower left", bbox_to_anchor=(-0.01, 0.98), handlelength=1, columnspacing=1.2)
    headline(axes, "What a step spends its time on", "forward, backward and update, by the profiler", lift=20)
    return figure


@styled
def growth_figure() -> Figure:
    """Seconds and memory of `ingest` by number of files."""
    sizes = {int(rows): row for rows, row in read_record("data-growth")["rows"].items()}
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    n = np.array(list(sizes))
    slope = _median(sizes[max(sizes)]["turns"]) / max(sizes)
    seconds.plot([0, max(n)], [0, slope * max(n)], color=FAINT, lw=1.2, ls=(0, (4, 3)))
    for rows, row in sizes.items():
        seconds.plot([rows] * len(row["turns"]), [value for value, _ in row["turns"]], "o", color=BLUE, ms=5, alpha=0.8)
    memory.plot(n, [row["peak_mib"] for row in sizes.values()], "o-", color=ORANGE)
    for axes in (seconds, memory):
        axes.set(xlabel="files", xlim=(0, 1.05 * max(n)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}k")
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.grid(axis="y")
    headline(seconds, "Seconds", "dashed: in proportion to the files")
    headline(memory, "Peak memory, MiB", "of the process, all libraries included")
    return figure


def _efficiency(record: dict[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            f"{row['gflop_a_sample']:.2f}",
            f"{row['samples_per_second']:.0f}",
            f"{statistics.median(row['of_peak']['peak']) / 1e9:.0f}",
            *_ratio(row["of_peak"]),
        ]
        for name, row in record["rows"].items()
    ]


def _ratio(result: dict[str, Any]) -> list[str]:
    digits = 2 if result["ratio"] < 10 else 0
    spread = f"{result['low']:.{digits}f} to {result['high']:.{digits}f}"
    return [f"**{result['ratio']:.{digits}f}**", spread, f"{result['rounds']}, {result['calm_rounds']}"]


def _median(turns: Sequence[Sequence[float]]) -> float:
    """Median over [value, cores that others used] of each turn; over calm turns only, if there are any."""
    return statistics.median([v for v, others in turns if others < CALM] or [v for v, _ in turns])


def _calmest(values: list[float], others: list[float]) -> float:
    return _median(list(zip(values, others, strict=True)))


def _section(
    title: str, text: str, head: list[str], rows: list[list[str]], records: Iterable[dict[str, Any]]
) -> list[str]:
    """Title, text, table, and how it was measured; [] without rows."""
    if not rows:
        return []
    records = list(records)
    lines = [f"## {title}", "", text, "", *_table(head, rows), ""]
    for record in records:
        threads = f", {record['threads']} threads" if "threads" in record else ""
        precision = f", {record['precision']}" if "precision" in record else ""
        where = f"; {conditions(record)}" if _differ(records) else ""
        lines += [f"`{record['command']}` at commit {record['commit']}{threads}{precision}{where}", ""]
        lines += [record["note"], ""] if "note" in record else []
    return lines[:-1] if _differ(records) else [*lines, f"{conditions(records[0])}."]


def _differ(records: Sequence[dict[str, Any]]) -> bool:
    """Whether they were made on different machines or versions."""
    return len({conditions(record) for record in records}) > 1


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _has(name: str) -> bool:
    return (RECORDS / f"{name}.json").exists()


COMPUTE_HEAD = ["", "GFLOP/sample", "samples/s", "peak, GFLOPS", "fraction of peak", "spread", "rounds, calm"]
INTRODUCTION = """Generated by `python benchmarks/performance.py` from `benchmarks/records/`. Variants that are compared
alternate in one process, and each ratio is that of two neighbouring measurements. Median and spread (smallest to
largest) are over the calm rounds, in which other processes used less than {calm} of a core, or over all rounds if
fewer than two were calm because of other work; the column *rounds, calm* has both numbers. Seconds and rates vary with
the machine: compare the ratios. The precision of each table is given below it. A commit is the last one that changed
`nla/`."""
STEP_TEXT = """*Limit*: forward, loss, backward and update of the network on two views that are already in memory and
normalised, in the same precision, with plain PyTorch. *End to end*: `nla.training.trainer.Trainer` in the middle of an
epoch, with the loader's thread, recipe `affine`, both views, the loss `paper`, the update, the samples' positions, the
check of each loss and the callback, and with deterministic kernels. *Ratio* is the end-to-end speed as a fraction of
the limit's. `make check-performance` repeats this at 48 px, in one to two minutes, and fails below 0.90; if other
processes disturb it, it gives no verdict."""
USUAL_TEXT = """The usual loop opens one image file per sample, and decodes, resizes, flips, erases and normalises it
on the CPU. It makes one forward pass for the image and one for its mirror image, in float32, and waits for the loss.
Backbone (the published ResNet-18 at 112 px), loss and batch size (32) are the same; NLA's loop computes in the
precision given below the table. Loading costs the usual loop little here: with this network, two cores process some 30
samples a second, and one core decodes hundreds. The rest is arithmetic: NLA's step reaches {reached:.2f} of the
measured peak at 112 px (below), so a loop at the peak itself would be about {best:.1f} times as fast as the usual one.
The goal, a factor of 3.5, is out of reach of this processor, whose bfloat16 is twice as fast as its float32. Whether a
processor with AMX, or a GPU, would reach it was not measured."""
NETWORKS_TEXT = """The operations are those of convolutions and matrix products, forward and backward, on both views.
The peak is a product of 2048 x 2048 matrices in the same precision on the same threads, alternating with the steps."""
SMALL_TEXT = """At 48 px and width 16, a step computes little for the memory that it moves: BatchNorm, ReLU and
additions, which only read and write memory, take more than a quarter of its time, and the optimiser almost none. Wider
stages raise the fraction, because operations grow with the square of the width, but memory only with the width. Width
24 is an exception: it has little more than half the operations of width 32, but is not much faster. For the same
network, channels-last helps, and a larger batch does not."""
COMPILED_TEXT = "The same network and batch size, compiled for this processor: not worth the longer start."
FERPLUS_TEXT = """From `fer2013.csv` and `fer2013new.csv` to `faces.parquet`, checked row by row and encoded, then to
the three tables for training. For comparison, the csv module reads only the pixels, as most scripts do."""
GROWTH_TEXT = """Faces as JPEG files of 100 px, one folder per class: each is read, checked, decoded and hashed, and its
bytes go into the table. Files after the first 2,048 are darker copies of the same faces."""
OTHERS_TEXT = """DVC hashes the files and keeps no bytes. Hugging Face's library puts the bytes into an Arrow table,
without checking or decoding them."""
LOADER_TEXT = """Batches of 64 grey images of 48 px. NLA decodes a set once, when training starts; then one thread cuts
batches out of memory and augments them. The others decode the same 6,000 JPEG files again and again; Hugging Face's
library has their bytes in an Arrow table. *affine* is the same function for all."""
MAPPED_TEXT = """20,000 RGB images of 112 px in batches of 64, without augmentation, as for a split that exceeds
`ray.images_in_memory`: the decoded images are in a mapped file, and are read in the same order as from memory. A
training step needs far fewer images a second."""
EVERYDAY_TEXT = """Each row is one process from start to end. `dvc repro` has nothing to do; a stage's row is the import
of its script with everything that it uses. The project has little data, which affects neither."""
READY = "onnx fp32"
FORMS = {
    "fp32": "Predictor, fp32",
    "bf16": "Predictor, `precision` bf16",
    READY: "ONNX Runtime, fp32",
    "onnx int8": "ONNX Runtime, int8",
    "from JPEG": "Predictor, fp32, from JPEG files",
}
SOURCE = {"synthetic": "drawn faces", "ferplus": "FERPlus"}
INFERENCE_TEXT = """The network of `params.yaml` at 48 px, with its mirror view, on the same threads. ONNX Runtime gets
pixels that are ready; so does the predictor, but for the last row, which decodes, checks and classifies JPEG files: at
batch 64, {decoding:.0%} of its time is decoding. Its aim is 0.75 of ONNX Runtime's speed on ready pixels, better 0.90.
How fast bf16 and int8 are depends on the processor: it needs AVX512-BF16 or AMX for the one, and VNNI for the other.
Accuracy is that on the {rows:,} validation images ({source}) by their labels; beside it, how many have the label that
fp32 gives."""
START_TEXT = """The start of the command: `nla predict` on one crop, from start to end, beside a process that does
nothing but `import torch`. The aim is one second more at most."""
HOSTILE_TEXT = """A model server as in [the pipeline](pipeline.md#serving) gets a PNG of {size:.1f} MB that would decode
to {pixels:.0f} megapixels, {n} times one after the other, then from two clients all the time beside four clients with
good requests. Memory is the sum over the server's processes."""

if __name__ == "__main__":
    main()
