"""The card of a sequence model in Markdown, with the YAML head that model hubs read: as that of a model of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nla.markdown import escaped
from nla.serving import card_texts
from nla.serving.model_card import (
    UNSTATED,
    Results,
    code_span,
    data_section,
    epoch_line,
    head,
    items,
    page,
)
from nla.text import shown
from nla.tracking.run_record import RunRecord

START = f"Start of the sequence model: {card_texts.FROM_SCRATCH}"


def sequence_card(
    card: Mapping[str, Any],
    frame_card: Mapping[str, Any],
    results: Results | None,
    run: RunRecord | None,
    licence: str = UNSTATED,
) -> str:
    """The card as Markdown with a YAML head.

    Args:
        card: of the sequence model.
        frame_card: of the frame model inside.
        results: of the sequence model, if they are at hand.
        run: record of its training, if it is at hand.
        licence: of the weights, as Hugging Face spells it; the default states none.
    """
    name = f"nla-{shown(card['source'])}-sequence"
    network, inside = escaped(card["architecture"]["name"]), escaped(frame_card["architecture"]["name"])
    what = (
        f"{network} over windows of {card['window']} frames, with features of {inside}, that assigns one of "
        f"{len(card['classes'])} classes to each frame of a film of one cropped face"
    )
    sections = {
        "Use": _use(card, frame_card),
        "Data": data_section(card["source"], _data_facts(run)),
        "Training": _training(card, frame_card, run),
    }
    return page(head(name, card, results, "video-classification", licence), name, what, card, sections, results)


def _use(card: Mapping[str, Any], frame_card: Mapping[str, Any]) -> list[str]:
    image = frame_card["image"]
    kind = "grey" if image["channels"] == 1 else "colour"
    return [
        "```python",
        "from nla.video.streaming import StreamPredictor",
        'predictor = StreamPredictor.load("models", "sequence")  # the folders of both models',
        "for frame in predictor.predict(crops):  # encoded images or arrays, in the order of the frames",
        "    print(frame.frame, frame.label, frame.probabilities)",
        "```",
        "",
        "Films are read by `nla predict film.mp4 --model FOLDER`, with the folder of both; clips by MLflow, each as a "
        "table with a row for each frame.",
        "",
        f"Crops are fitted to {kind} of {image['size']} x {image['size']} pixels. Windows overlap by "
        f"{card['overlap']:.0%}, logits are averaged over them, probabilities over the image and its mirror image, and "
        "[calibrated](#calibration) where validation supports it. No pickle is involved. SHA-256 of the weights: "
        f"`{code_span(card['sha256'])}`, and of the frame model's: `{code_span(frame_card['sha256'])}`.",
    ]


def _data_facts(run: RunRecord | None) -> list[str]:
    clips = run.params.get("clips") if run else None
    noise = clips.get("noise") if isinstance(clips, Mapping) else None
    return [f"Label noise put into the training videos: {escaped(json.dumps(noise))}"] if noise else []


def _training(card: Mapping[str, Any], frame_card: Mapping[str, Any], run: RunRecord | None) -> list[str]:
    frame_model = f"Frame model: run `{code_span(frame_card['fingerprint'])}`, trained before, and left as it is"
    lines = [epoch_line(card), ""]
    loss = (run.params.get("sequence") or {}).get("loss") if run else None
    if not isinstance(loss, Mapping):
        return [*lines, *items([frame_model]), "", "The record of the training is not at hand."]
    variant = f", variant {escaped(str(loss['variant']))}" if loss.get("variant") else ""
    return [*lines, *items([f"Loss: {escaped(str(loss.get('name')))}{variant}", frame_model, START])]
