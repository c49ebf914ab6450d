"""How a model's training faces were cropped, noted in its card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nla.errors import WeightsError
from nla.faces.crop import Crop
from nla.io import read_json_as, write_json
from nla.models.saved_model import read_card, weights_file


def note_crop(model: Path | str, crop: Crop) -> None:
    """Writes `crop` into a model's card, so that `nla predict` crops faces alike; the weights stay as they are.

    Args:
        model: weights file, or a folder with model.safetensors and model.json.
        crop: such as `nla.faces.crop.read_crop` reads from the crop.json of `nla crop`.

    Raises:
        WeightsError: there is no such model, or its card is damaged.
        OSError: the card cannot be written.
    """
    weights = weights_file(Path(model))
    read_card(weights)  # whether it is one
    path = weights.with_suffix(".json")
    card = read_json_as(path, dict[str, Any], "Train the model again.", WeightsError)
    write_json(path, {**card, "crop": asdict(crop)}, sealed=True)
