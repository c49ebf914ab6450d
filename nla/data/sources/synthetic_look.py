"""Parameters of a drawn face: the muscles of its expression, and its look, which is independent of the expression."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, get_type_hints

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]  # float32 throughout; the type checker loses the width at each Python number


class Muscle(IntEnum):
    """Columns of a muscle array, with codes of the Facial Action Coding System (Ekman & Friesen 1978) as comments."""

    INNER_BROW = 0  # AU1, raised
    OUTER_BROW = 1  # AU2, raised
    FROWN = 2  # AU4, brows lowered and drawn together
    EYE_OPEN = 3  # AU5; negative lowers the lid
    LID_TIGHT = 4  # AU6 and AU7
    NOSE_WRINKLE = 5  # AU9
    UPPER_LIP = 6  # AU10, raised
    PULL = 7  # AU12, both lip corners up
    SMIRK = 8  # AU12, AU14 and AU2 on one side: positive is the image's right
    DEPRESS = 9  # AU15, lip corners down
    STRETCH = 10  # AU20, mouth drawn wide
    PRESS = 11  # AU24
    JAW = 12  # AU25 and AU26, open


@dataclass(frozen=True)
class Look:
    """Everything about a face but its expression; each field is [N, 1, 1], uniform in the annotated range.

    Lengths are in half image sides, tones in [0, 1]. Whatever distinguishes left from right is symmetric about 0, so
    that a face is as likely as its mirror image.
    """

    # pose
    shift_x: Annotated[Array, -0.07, 0.07]
    shift_y: Annotated[Array, -0.07, 0.07]
    scale: Annotated[Array, 0.95, 1.2]
    turn: Annotated[Array, -0.17, 0.17]  # in the image plane, radians
    yaw: Annotated[Array, -0.17, 0.17]
    pitch: Annotated[Array, -0.08, 0.08]
    # identity
    face_width: Annotated[Array, 0.66, 0.8]
    face_height: Annotated[Array, 0.86, 0.98]
    jaw_width: Annotated[Array, 0.05, 0.25]  # how much the face narrows downwards
    skin: Annotated[Array, 0.45, 0.85]
    hair: Annotated[Array, 0.05, 0.5]
    hair_line: Annotated[Array, -0.75, -0.55]
    hair_length: Annotated[Array, -0.3, 1.2]
    eye_distance: Annotated[Array, 0.28, 0.34]
    eye_height: Annotated[Array, -0.2, -0.13]
    eye_width: Annotated[Array, 0.13, 0.165]
    eye_opening: Annotated[Array, 0.058, 0.075]
    iris: Annotated[Array, 0.05, 0.35]
    gaze: Annotated[Array, -0.03, 0.03]
    brow_gap: Annotated[Array, 0.16, 0.2]
    brow_width: Annotated[Array, 0.16, 0.2]
    brow_thickness: Annotated[Array, 0.022, 0.042]
    brow_arch: Annotated[Array, 0.0, 0.04]
    nose_length: Annotated[Array, 0.17, 0.25]
    nose_width: Annotated[Array, 0.09, 0.13]
    mouth_height: Annotated[Array, 0.46, 0.54]
    mouth_width: Annotated[Array, 0.23, 0.29]
    lip_thickness: Annotated[Array, 0.03, 0.05]
    lip_tone: Annotated[Array, 0.55, 0.8]  # relative to the skin
    # light and camera
    background: Annotated[Array, 0.1, 0.9]
    light_x: Annotated[Array, -0.3, 0.3]
    light_y: Annotated[Array, -0.25, 0.25]
    contrast: Annotated[Array, 0.8, 1.15]
    brightness: Annotated[Array, -0.1, 0.1]
    blur: Annotated[Array, 0.2, 0.6]  # standard deviation, pixels
    noise: Annotated[Array, 0.005, 0.02]
    # objects in front: a face has one if its number is below the fraction of faces that have it
    glasses: Annotated[Array, 0.0, 1.0]
    strand: Annotated[Array, 0.0, 1.0]
    hand: Annotated[Array, 0.0, 1.0]
    front_x: Annotated[Array, -0.6, 0.6]  # position of the strand of hair or the hand
    front_lean: Annotated[Array, -0.5, 0.5]

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> Look:
        """`count` looks, every field independent and uniform in its range."""
        drawn = {}
        for name, hint in get_type_hints(cls, include_extras=True).items():
            low, high = hint.__metadata__
            drawn[name] = rng.uniform(low, high, (count, 1, 1)).astype(np.float32)
        return cls(**drawn)

    def take(self, rows: slice | NDArray[np.intp]) -> Look:
        """The looks of these rows."""
        return Look(**{name: values[rows] for name, values in vars(self).items()})
