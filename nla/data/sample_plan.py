"""Plans which face becomes which sample, without reading images.

Steps: label rule -> leaks -> validation split -> imbalance -> noise, synthetic or of FER2013's labels -> corrections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.config.base import nearest
from nla.config.data import DataConfig, LabelRule, NoiseConfig
from nla.data.correcting import Labelled, correct
from nla.data.corrections import Corrections
from nla.data.fer2013_labels import MISSING, disagreement, fer2013_labels
from nla.data.schema import INGEST, OUT, SPLITS, TEST, TRAIN, VALID, Corrected, TableInfo, dense, read_faces
from nla.data.synthetic_imbalance import impose_imbalance, keep_shares
from nla.data.synthetic_noise import flip_labels, swap_shares, transition_matrix
from nla.data.vote_labels import CONTEMPT, KEPT, REASONS, Labels, label_faces, shares
from nla.errors import ConfigError, DataError
from nla.io import read_batches

ROWS = 65_536  # names of images read at a time
SPLIT, IMBALANCE, NOISE, VALID_NOISE, ROWS_KEPT = 1, 2, 3, 4, 5
"""Keys of independent random streams: each is seeded by (data.seed, key)."""
CLEAN = "validation and test are clean: label noise and imbalance are only in train"
CLEAN_TEST = "test is clean: train and validation have FER2013's labels, imbalance is only in train"
CLEAN_TEST_ONLY = "test is clean: label noise is in train and validation, imbalance is only in train"


@dataclass(frozen=True)
class SamplePlan:
    """Assignment of N faces, in the order of their table."""

    info: TableInfo
    """TableInfo of the faces."""
    classes: tuple[str, ...]
    split_N: np.ndarray
    """Index in SPLITS, or OUT; int8."""
    clean_N: np.ndarray
    """Labels before noise, int8; under `fer2013`, the majority. A corrected label is clean where there is neither."""
    label_N: np.ndarray
    """Labels given to training, int8."""
    votes_NC: np.ndarray
    """Shares of the annotators' votes, float32; NaN rows without votes."""
    target_NC: np.ndarray
    """Distributions to learn instead of the labels, after noise, float32; NaN rows where the label is to be learnt."""
    posterior_NC: np.ndarray
    """True P(class | image), float32; NaN rows if unknown."""
    is_corrected_N: np.ndarray
    """Mask of the rows with a label or target from the corrections, bool."""
    corrections: str | None
    """SHA-256 of the file of corrections; None without any."""
    corrected: Mapping[str, Corrected]
    """What they did, per split; {} without any."""
    report: dict[str, Any]


@dataclass(frozen=True)
class _Faces:
    info: TableInfo
    split_N: np.ndarray
    label_N: np.ndarray
    fer2013_N: np.ndarray
    """Labels of FER2013 among `info.classes`, MISSING where there is none."""
    votes_NV: np.ndarray
    posterior_NC: np.ndarray
    is_named_N: np.ndarray
    image_N: np.ndarray
    """Index in `hashes`: equal numbers mark identical images."""
    hashes: pa.Array
    """Hashes of the images' pixels."""


def plan_samples(
    path: Path, config: DataConfig, corrections: Corrections | None = None, listing: Path | None = None
) -> SamplePlan:
    """Makes the plan for the faces table at `path`.

    Args:
        path: path of the table.
        config: the section `data`; the file that it names is not read here.
        corrections: content of that file.
        listing: file that lists all bad lines of the corrections if there are many.

    Raises:
        DataError: the table is missing or damaged, or has a value that it cannot have; train would lack a class, a
            split would be empty, the imbalance or noise is impossible, or a line of the corrections cannot be applied.
        ConfigError: the noise map names an unknown class, or the label rule needs labels that the source lacks.
    """
    faces = _read(path)
    labels = _labels(faces, config)
    split_N = np.where(labels.reason_N == KEPT, faces.split_N, OUT).astype(np.int8)
    report: dict[str, Any] = {
        "source": faces.info.source,
        "classes": list(labels.classes),
        "label_rule": config.label_rule,
        "seed": config.seed,
        "faces": {name: int((faces.split_N == s).sum()) for s, name in enumerate(SPLITS)},
        "labelled": _counts(split_N, labels.label_N, labels.classes),
        "dropped": _dropped(faces.split_N, labels.reason_N),
    }
    split_N, report["leaks"] = _leaks(split_N, faces.image_N, config)
    split_N, report["validation"] = _validation(faces, split_N, labels.label_N, config)
    if config.label_rule == "votes":
        split_N, labels = _measured(faces, split_N, labels, config)
    report["absent"] = _absent(split_N, labels)
    split_N, report["imbalance"] = _imbalance(split_N, labels, config)
    split_N, report["rows_left_out"] = _fewer_rows(split_N, labels, config)
    if config.label_rule == "fer2013":
        own_N = _fer2013(faces, labels.classes)
        label_N = fer2013_labels(own_N, labels.label_N, split_N, faces.info.source)
        report["fer2013"] = disagreement(own_N, labels.label_N, split_N, labels.classes)
    else:
        label_N = _flipped(split_N, labels, config)
    planned = Labelled(split_N, label_N, labels.label_N, _target(labels, label_N, config))
    is_corrected_N, corrected = np.zeros(len(split_N), bool), dict[str, Corrected]()
    report["corrections"] = None
    if corrections is not None and (corrections.lines or corrections.problems):
        result = correct(
            corrections,
            planned,
            faces.image_N,
            faces.hashes,
            labels.classes,
            has_reference=_has_reference(config),
            test_too=config.correct_test,
            listing=listing,
        )
        planned, is_corrected_N, corrected = result.faces, result.is_corrected_N, dict(result.counts)
        report["corrections"] = result.report
    labels = replace(labels, label_N=planned.clean_N)
    report["noise"] = _noise(planned.split_N, labels, planned.label_N, config)
    report["samples"] = _counts(planned.split_N, labels.label_N, labels.classes)
    report["clean"] = _clean(config, corrected)
    return SamplePlan(
        faces.info,
        labels.classes,
        planned.split_N,
        planned.clean_N,
        planned.label_N,
        labels.votes_NC,
        planned.target_NC,
        _posterior(faces, labels.classes),
        is_corrected_N,
        corrections.sha256 if corrections is not None and corrected else None,
        corrected,
        report,
    )


def _read(path: Path) -> _Faces:
    info, table = read_faces(path)
    parts = [pc.struct_field(batch["image"], "path") for batch in read_batches(path, ["image.path"], ROWS, INGEST)]
    name = pa.chunked_array(parts, pa.string())
    images = table["pixels"].combine_chunks().dictionary_encode()
    return _Faces(
        info,
        pc.index_in(table["split"], value_set=pa.array(SPLITS)).to_numpy().astype(np.int8),
        pc.fill_null(table["label"], -1).to_numpy(),
        pc.fill_null(table["fer2013_label"], MISSING).to_numpy(),
        dense(table["votes"], len(info.votes), np.int16, 0),
        dense(table["posterior"], len(info.classes), np.float32, np.nan),
        pc.greater(pc.fill_null(pc.utf8_length(name), 0), 0).to_numpy(),
        images.indices.to_numpy(),
        images.dictionary,
    )


def _labels(faces: _Faces, config: DataConfig) -> Labels:
    """Labels by the rule; under `votes`, by majority in the source's validation and test.

    Models trained on distributions are measured on majorities (Barsoum et al. 2016), so that results are comparable.
    """
    labels = _labelled(faces, config.label_rule, config)
    if config.label_rule != "votes":
        return labels
    return _relabelled(labels, _labelled(faces, "majority", config), faces.split_N != TRAIN)


def _labelled(faces: _Faces, rule: LabelRule, config: DataConfig) -> Labels:
    return label_faces(faces.label_N, faces.votes_NV, faces.is_named_N, faces.info.classes, rule, config.contempt)


def _relabelled(labels: Labels, others: Labels, where_N: np.ndarray) -> Labels:
    """`labels`, with those of `others` for the faces of `where_N`."""
    return replace(
        labels,
        label_N=np.where(where_N, others.label_N, labels.label_N),
        reason_N=np.where(where_N, others.reason_N, labels.reason_N),
    )


def _measured(faces: _Faces, split_N: np.ndarray, labels: Labels, config: DataConfig) -> tuple[np.ndarray, Labels]:
    """Under `votes`, labels a validation split drawn from train by majority; faces without a majority are left out."""
    labels = _relabelled(labels, _labelled(faces, "majority", config), split_N == VALID)
    return np.where(labels.reason_N == KEPT, split_N, OUT), labels


def _leaks(split_N: np.ndarray, image_N: np.ndarray, config: DataConfig) -> tuple[np.ndarray, dict[str, Any]]:
    found: dict[str, Any] = {**leaks(split_N, image_N)}
    dropped_N = leaking_rows(split_N, image_N) & config.drop_leaks
    found["dropped"] = {name: int((dropped_N & (split_N == s)).sum()) for s, name in enumerate(SPLITS)}
    return np.where(dropped_N, OUT, split_N), found


def _validation(faces: _Faces, split_N: np.ndarray, label_N: np.ndarray, config: DataConfig) -> tuple[np.ndarray, str]:
    if (faces.split_N == VALID).any():
        return split_N, "given by the source"
    train = np.flatnonzero(split_N == TRAIN)
    rng = np.random.default_rng((config.seed, SPLIT))
    chosen = train[stratified_split(label_N[train], faces.image_N[train], config.valid_fraction, rng)]
    split_N = split_N.copy()
    split_N[chosen] = VALID
    return split_N, f"{config.valid_fraction:g} of every class of the source's train, drawn with seed {config.seed}"


def _absent(split_N: np.ndarray, labels: Labels) -> dict[str, list[str]]:
    """Classes without an image, by split. Raises DataError if train lacks one, or a split has no image at all."""
    counts = _counts(split_N, labels.label_N, labels.classes)
    absent = {split: [name for name, n in counts[split].items() if not n] for split in SPLITS}
    empty = [f"{split} has no image of {name}" for split in SPLITS for name in absent[split] if _needed(split, counts)]
    if empty:
        raise DataError(
            "; ".join(empty) + ". Add images of it to the source, or choose another data.label_rule "
            "(data.contempt: false leaves out contempt), then run `dvc repro`."
        )
    return absent


def _needed(split: str, counts: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether every class must be present: train must teach all, while validation and test measure those they have."""
    return split == SPLITS[TRAIN] or not any(counts[split].values())


def _imbalance(split_N: np.ndarray, labels: Labels, config: DataConfig) -> tuple[np.ndarray, dict[str, Any] | None]:
    if config.imbalance_factor is None:
        return split_N, None
    train = np.flatnonzero(split_N == TRAIN)
    rng = np.random.default_rng((config.seed, IMBALANCE))
    kept = train[impose_imbalance(labels.label_N[train], len(labels.classes), config.imbalance_factor, rng)]
    size_C = np.bincount(labels.label_N[kept])
    facts = {"factor": config.imbalance_factor, "measured": float(size_C.max() / size_C.min())}
    return _only(kept, split_N), facts | {"dropped": len(train) - len(kept)}


def _fewer_rows(split_N: np.ndarray, labels: Labels, config: DataConfig) -> tuple[np.ndarray, int]:
    """`split_N` with `data.train_rows` rows of train, and the number of those left out."""
    if config.train_rows is None:
        return split_N, 0
    train, rng = np.flatnonzero(split_N == TRAIN), np.random.default_rng((config.seed, ROWS_KEPT))
    kept = train[keep_shares(labels.label_N[train], config.train_rows, rng)]
    return _only(kept, split_N), len(train) - len(kept)


def _only(kept: np.ndarray, split_N: np.ndarray) -> np.ndarray:
    """`split_N` with only the rows `kept` in train."""
    thinned_N = np.where(split_N == TRAIN, OUT, split_N)
    thinned_N[kept] = TRAIN
    return thinned_N


def _fer2013(faces: _Faces, classes: tuple[str, ...]) -> np.ndarray:
    """FER2013's labels as numbers of `classes`, which may lack contempt, a class that FER2013 does not have."""
    if classes == faces.info.classes:
        return faces.fer2013_N
    removed = faces.info.classes.index(CONTEMPT)
    return np.where(faces.fer2013_N > removed, faces.fer2013_N - 1, faces.fer2013_N)


def _flipped(split_N: np.ndarray, labels: Labels, config: DataConfig) -> np.ndarray:
    """Labels with the synthetic noise, in train and, with `data.noise.valid`, in validation."""
    noise, label_N, classes = config.noise, labels.label_N.copy(), len(labels.classes)
    mapping = _class_map(noise, labels.classes) if noise.rate > 0 else {}
    for split, key in ((TRAIN, NOISE), (VALID, VALID_NOISE)):
        if noise.rate > 0 and (split == TRAIN or noise.valid):
            rows, rng = np.flatnonzero(split_N == split), np.random.default_rng((config.seed, key))
            label_N[rows] = flip_labels(label_N[rows], classes, noise.kind, noise.rate, noise.exact, mapping, rng)
    return label_N


def _noise(split_N: np.ndarray, labels: Labels, label_N: np.ndarray, config: DataConfig) -> dict[str, Any]:
    """The noise that train has. Raises DataError if a class has no label left."""
    train = np.flatnonzero(split_N == TRAIN)
    given_N, clean_N = label_N[train], labels.label_N[train]
    flipped = int((given_N != clean_N).sum())
    measured = flipped / len(train)
    if config.label_rule == "fer2013":
        asked: dict[str, Any] = {"kind": "fer2013", "rate": measured, "exact": True, "mapping": {}, "valid": True}
    else:
        asked = config.noise.model_dump()
    matrix_CC = transition_matrix(clean_N, given_N, len(labels.classes))
    in_valid_N = (split_N == VALID) & (label_N != labels.label_N)
    facts = asked | {
        "flipped": flipped,
        "flipped_in_valid": int(in_valid_N.sum()),
        "measured_rate": measured,
        "train_labels": _counts(split_N, label_N, labels.classes)["train"],
        "transition_matrix": {
            clean: dict(zip(labels.classes, row, strict=True))
            for clean, row in zip(labels.classes, matrix_CC.tolist(), strict=True)
        },
    }
    if absent := [name for name, n in facts["train_labels"].items() if not n]:
        cause = "label_rule" if config.label_rule == "fer2013" else "noise.rate"
        got, advice = ("fer2013", "Choose majority") if cause == "label_rule" else (f"{measured:g}", "Lower it")
        raise DataError(f"data.{cause}: no training label of {', '.join(absent)} remains (got {got}). {advice}.")
    return facts


def _has_reference(config: DataConfig) -> tuple[bool, bool, bool]:
    """Per split, whether clean labels are known that its given ones can differ from."""
    is_noisy, is_fer2013 = config.noise.rate > 0, config.label_rule == "fer2013"
    return is_noisy or is_fer2013, (is_noisy and config.noise.valid) or is_fer2013, False


def _clean(config: DataConfig, corrected: Mapping[str, Corrected]) -> str:
    """Which splits are clean, and whether test was corrected by hand."""
    clean = CLEAN_TEST if config.label_rule == "fer2013" else CLEAN_TEST_ONLY if config.noise.valid else CLEAN
    changed = corrected["test"].changed if corrected else 0
    return clean + (f"; {changed:,} rows of test were corrected by hand (data.correct_test)" if changed else "")


def _target(labels: Labels, given_N: np.ndarray, config: DataConfig) -> np.ndarray:
    if config.label_rule != "votes":
        return np.full_like(labels.votes_NC, np.nan)
    return swap_shares(labels.votes_NC, labels.label_N, given_N)


def _class_map(noise: NoiseConfig, classes: tuple[str, ...]) -> Mapping[int, int]:
    unknown = sorted({name for pair in noise.mapping.items() for name in pair} - set(classes))
    if unknown:
        raise ConfigError(f"data.noise.mapping: unknown class {', '.join(unknown)}{nearest(unknown[0], classes)}")
    return {classes.index(clean): classes.index(noisy) for clean, noisy in noise.mapping.items()}


def _posterior(faces: _Faces, classes: tuple[str, ...]) -> np.ndarray:
    """True posterior; without contempt, P(class | image, not contempt)."""
    if classes == faces.info.classes:
        return faces.posterior_NC
    return shares(np.delete(faces.posterior_NC, faces.info.classes.index(CONTEMPT), axis=1), len(classes))


def _counts(split_N: np.ndarray, label_N: np.ndarray, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    count_SC = [np.bincount(label_N[split_N == s], minlength=len(classes)).tolist() for s in range(len(SPLITS))]
    return {split: dict(zip(classes, row, strict=True)) for split, row in zip(SPLITS, count_SC, strict=True)}


def _dropped(split_N: np.ndarray, reason_N: np.ndarray) -> dict[str, dict[str, int]]:
    count_SR = [np.bincount(reason_N[split_N == s], minlength=len(REASONS)).tolist() for s in range(len(SPLITS))]
    return {
        split: {reason: n for reason, n in zip(REASONS, row, strict=True) if reason and n}
        for split, row in zip(SPLITS, count_SR, strict=True)
    }


def stratified_split(label_N: np.ndarray, image_N: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Mask of the validation split, bool [N]: about `fraction` of the images of every class.

    Equal `image_N` mark identical images, which stay on one side, counted for the class of the first one, so that the
    split does not leak. A class of two or more images has at least one on either side.
    """
    _, first_M, group_N = np.unique(image_N, return_index=True, return_inverse=True)
    label_M = label_N[first_M]
    is_valid_M = np.zeros(len(first_M), bool)
    for label in np.unique(label_M):
        images = rng.permutation(np.flatnonzero(label_M == label))
        size = round(fraction * len(images))
        is_valid_M[images[: min(max(size, 1), len(images) - 1)]] = True
    return is_valid_M[group_N]


def leaks(split_N: np.ndarray, image_N: np.ndarray) -> dict[str, int]:
    """Number of rows of a later split whose image is in an earlier split too, such as {"test_in_train": 288}."""
    pairs = ((VALID, TRAIN), (TEST, TRAIN), (TEST, VALID))
    return {
        f"{SPLITS[later]}_in_{SPLITS[earlier]}": int(
            np.isin(image_N[split_N == later], image_N[split_N == earlier]).sum()
        )
        for later, earlier in pairs
    }


def leaking_rows(split_N: np.ndarray, image_N: np.ndarray) -> np.ndarray:
    """Mask of train rows whose image is in valid or test, and valid rows whose image is in test; bool [N]."""
    in_test_N = np.isin(image_N, image_N[split_N == TEST])
    in_valid_N = np.isin(image_N, image_N[split_N == VALID])
    leaking_N: np.ndarray = ((split_N == TRAIN) & (in_valid_N | in_test_N)) | ((split_N == VALID) & in_test_N)
    return leaking_N
