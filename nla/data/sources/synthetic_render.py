"""Draws grey faces, a batch at a time, from the muscles of their expressions and a look independent of the expression.

Each face has local coordinates: u to the right and v down, (0, 0) between nose and eyes, in half image sides. Shapes
are painted over each other, each through its coverage in [0, 1], which falls off within about one pixel around the
shape's edge. Left and right share one computation through |u|.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, get_type_hints

import cv2
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


SIDE = 48  # pixels, as FER2013
EDGE = 2.2 / SIDE  # width of a soft edge, slightly more than a pixel, which is 2 / SIDE

GLASSES, STRAND, HAND = 0.12, 0.1, 0.06  # fractions of the faces that have them
AT_ONCE = 32  # faces whose pixel arrays, of 300 kB each, fit the processor's cache
WHOLE, UPPER, LOWER = slice(None), slice(0, 34), slice(22, None)  # image rows that eyes and mouth reach in any pose


def draw_faces(muscles_NM: NDArray[np.floating], look: Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Images [N, 48, 48] of muscle activities (0 at rest, at most about 1) on the faces of `look`."""
    images = np.empty((len(muscles_NM), SIDE, SIDE), np.uint8)
    for start in range(0, len(muscles_NM), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        scene = _Scene(muscles_NM[rows], look.take(rows))
        for layer, lines in (
            (_head, WHOLE),
            (_nose, WHOLE),
            (_eyes, UPPER),
            (_brows, UPPER),
            (_wrinkles, WHOLE),
            (_mouth, LOWER),
            (_front, WHOLE),
        ):
            layer(scene.within(lines))
        images[rows] = _photograph(scene.canvas, scene.look, rng)
    return images


class _Scene:
    """Pixel coordinates of each face, and the canvas [N, 48, 48] that its layers are painted on."""

    def __init__(self, muscles_NM: NDArray[np.floating], look: Look, canvas: Array | None = None) -> None:
        self.look, self.muscles_NM = look, muscles_NM
        self.muscle = {m: np.asarray(muscles_NM[:, m], np.float32)[:, None, None] for m in Muscle}
        axis = ((np.arange(SIDE, dtype=np.float32) + 0.5) * 2 / SIDE - 1).astype(np.float32)
        x, y = axis[None, None, :] - look.shift_x, axis[None, :, None] - look.shift_y
        cos, sin = np.cos(look.turn) / look.scale, np.sin(look.turn) / look.scale
        self.head_u, self.head_v = x * cos + y * sin, y * cos - x * sin
        # Turning the head shifts its middle more than its outline.
        self.u = self.head_u - look.yaw * (1 - self.head_u * self.head_u)
        self.v = self.head_v - look.pitch * (1 - self.head_v * self.head_v)
        self.across = np.abs(self.u)
        self.side = np.sign(self.u)  # -1 in the image's left half, 1 in the right
        self.canvas = look.background + np.zeros_like(self.u) if canvas is None else canvas

    def within(self, lines: slice) -> _Scene:
        """The same scene, restricted to these image rows."""
        part = copy(self)
        for name in ("head_u", "head_v", "u", "v", "across", "side", "canvas"):
            setattr(part, name, getattr(self, name)[:, lines])
        return part

    def paint(self, coverage: Array, tone: Array | float) -> None:
        """Blends `tone` into the canvas in proportion to `coverage`."""
        self.canvas += coverage * (tone - self.canvas)

    def shade(self, coverage: Array, depth: Array | float) -> None:
        """Darkens the canvas by the fraction `depth` (negative: lightens) in proportion to `coverage`."""
        self.canvas *= 1 - depth * coverage


def _inside(distance: Array, edge: float = EDGE) -> Array:
    """Coverage of the shape with this signed distance (negative inside)."""
    coverage = distance * np.float32(-1 / edge)
    coverage += np.float32(0.5)
    return np.clip(coverage, 0, 1, out=coverage)


def _ellipse(u: Array, v: Array, a: Array | float, b: Array | float) -> Array:
    """Approximate signed distance to the ellipse with half axes a and b."""
    distance: Array = (np.sqrt((u / a) ** 2 + (v / b) ** 2) - 1) * np.minimum(a, b)
    return distance


def _head(s: _Scene) -> None:
    look, u, v = s.look, s.head_u, s.head_v
    across = np.abs(u)
    below = np.maximum(v, 0)
    height = look.face_height + np.float32(0.08) * s.muscle[Muscle.JAW] * (v > 0)
    width = look.face_width * (1 - look.jaw_width * below * below)
    s.paint(_inside(np.maximum(across - look.face_width * 0.55, 0.8 - v)), look.skin * 0.6)  # neck
    cap = _ellipse(u, v + 0.1, look.face_width + 0.1, look.face_height + 0.05)
    sides = np.maximum(across - look.face_width - 0.08, v - look.hair_length)
    s.paint(_inside(np.where(v < 0, cap, sides), 2 * EDGE), look.hair)
    oval = _ellipse(u, v, width, height)
    hair_line = look.hair_line + 0.35 * across * across - v
    s.paint(_inside(np.maximum(oval, hair_line)), look.skin)
    s.shade(_inside(-oval - 0.12, 0.25) * _inside(oval), 0.2)  # the outline turns away from the light


def _nose(s: _Scene) -> None:
    look, wrinkle = s.look, s.muscle[Muscle.NOSE_WRINKLE]
    tip = look.nose_length - 0.05 * wrinkle
    above = (s.v - tip) * (1 / 0.4)  # 0 at the tip, -1 at the root
    side = np.abs(s.across - look.nose_width * (0.9 + 0.5 * above))
    s.shade(_inside(side - 0.02, 0.06) * _inside(np.abs(above + 0.45) - 0.5, 0.3), 0.16)
    s.shade(_inside(s.across - 0.03, 0.08) * _inside(np.abs(above + 0.4) - 0.4, 0.3), -0.1)  # the bridge shines
    wing = look.nose_width * (0.65 + 0.2 * wrinkle)
    s.shade(_inside(_ellipse(s.across - wing, s.v - tip - 0.03, 0.05, 0.025)), 0.65)


def _eyes(s: _Scene) -> None:
    look = s.look
    tight, wide = s.muscle[Muscle.LID_TIGHT], s.muscle[Muscle.EYE_OPEN]
    u, v = s.across - look.eye_distance, s.v - look.eye_height
    almond = np.maximum(1 - (u / look.eye_width) ** 2, 0)
    upper = look.eye_opening * np.maximum(1 + 0.85 * wide - 0.35 * tight, 0.15)
    lower = look.eye_opening * np.maximum(0.75 + 0.25 * wide - 0.6 * tight, 0.1)
    s.shade(_inside(_ellipse(u, v + 0.01, look.eye_width * 1.35, 0.14), 0.12), 0.12)  # the socket
    lids = np.maximum(-v - upper * almond, v - lower * almond)
    is_between = _inside(np.abs(u) - look.eye_width)
    opening = _inside(lids) * is_between
    s.paint(opening, np.minimum(look.skin + 0.25, 0.95))
    s.paint(opening * _inside(_ellipse(u - s.side * look.gaze, v + 0.005, 0.075, 0.075)), look.iris)
    s.shade(_inside(np.abs(v + upper * almond) - 0.014) * is_between, 0.6)  # lashes
    s.shade(_inside(np.abs(v - lower * almond) - 0.004) * is_between, 0.35)


def _brows(s: _Scene) -> None:
    look, m = s.look, s.muscle
    u = s.across - look.eye_distance + 0.05 * m[Muscle.FROWN]
    along = np.clip(u / look.brow_width, -1.2, 1.2)  # -1 at the inner end
    inner, outer = (1 - along) * 0.5, (1 + along) * 0.5
    doubt = 1.2 * np.maximum(s.side * m[Muscle.SMIRK], 0)  # the brow above a smirk goes up with it
    lift = m[Muscle.INNER_BROW] * inner + (m[Muscle.OUTER_BROW] + doubt) * outer
    lower = m[Muscle.FROWN] * (0.3 + 0.9 * inner)
    curve = look.eye_height - look.brow_gap - 0.13 * lift + 0.11 * lower + look.brow_arch * along * along
    line = np.abs(s.v - curve) - look.brow_thickness * (1.15 - 0.35 * along)
    s.paint(_inside(line) * _inside(np.abs(u) - look.brow_width), look.hair * 0.8)


def _wrinkles(s: _Scene) -> None:
    look, m = s.look, s.muscle
    lift = np.maximum(m[Muscle.INNER_BROW], m[Muscle.OUTER_BROW])
    for height in (-0.27, -0.36):
        line = np.abs(s.v - look.eye_height - height + 0.05 * lift + 0.1 * s.u * s.u) - 0.008
        s.shade(_inside(line) * _inside(s.across - 0.3, 0.15), 0.25 * lift)
    line = np.abs(s.across - 0.045) - 0.008  # between the brows
    s.shade(_inside(line) * _inside(np.abs(s.v - look.eye_height + 0.13) - 0.08, 0.08), 0.35 * m[Muscle.FROWN])
    wrinkle = m[Muscle.NOSE_WRINKLE]
    for height in (-0.02, 0.06):
        line = np.abs(s.v - look.eye_height - height - 0.5 * s.across) - 0.01
        s.shade(_inside(line) * _inside(s.across - 0.1, 0.06), 0.55 * wrinkle)
    smile = m[Muscle.PULL] + np.maximum(s.side * m[Muscle.SMIRK], 0)
    fold = np.clip(0.8 * smile + 0.9 * m[Muscle.UPPER_LIP], 0, 1.2)
    fall = s.v - look.nose_length
    line = np.abs(s.across - look.nose_width * 1.1 - 0.55 * fall) - 0.012
    s.shade(_inside(line) * _inside(np.abs(fall - 0.12) - 0.12, 0.08), 0.3 * fold)


def _mouth(s: _Scene) -> None:
    look, m = s.look, s.muscle
    smirk = s.side * m[Muscle.SMIRK]
    pull, jaw, press = m[Muscle.PULL], m[Muscle.JAW], m[Muscle.PRESS]
    wide = (
        1 + 0.25 * pull + 0.4 * np.maximum(smirk, 0) + 0.3 * m[Muscle.STRETCH] - 0.12 * press - 0.22 * jaw * (1 - pull)
    )
    t2 = (s.u / (look.mouth_width * wide)) ** 2
    bow = np.maximum(1 - t2, 0)
    corner = np.minimum(t2, 1.2)
    curve = (0.14 * m[Muscle.DEPRESS] - 0.17 * pull) * (corner - 0.4) - 0.26 * np.maximum(smirk, 0) * corner
    middle = look.mouth_height + curve
    top = middle - (0.09 * m[Muscle.UPPER_LIP] + 0.05 * jaw) * bow
    bottom = middle + (0.27 * jaw + 0.03 * m[Muscle.UPPER_LIP]) * bow
    lip = look.lip_thickness * (1 - 0.75 * press) * (0.2 + 0.8 * bow)
    is_between = _inside((np.sqrt(t2) - 1) * look.mouth_width)
    s.paint(_inside(np.maximum(top - lip - s.v, s.v - bottom - 1.3 * lip)) * is_between, look.skin * look.lip_tone)
    gap = _inside(np.maximum(top - s.v, s.v - bottom) - 0.012) * is_between
    s.paint(gap, 0.08)
    show = np.clip(1.2 * pull + m[Muscle.UPPER_LIP] + m[Muscle.STRETCH] + 0.3 * jaw, 0, 1)
    s.paint(gap * _inside(np.maximum(top + 0.01 - s.v, s.v - np.minimum(bottom - 0.02, top + 0.08))), 0.1 + 0.75 * show)
    s.shade(_inside(np.abs(s.v - bottom - 2.2 * lip - 0.03) - 0.012, 0.05) * _inside(s.across - 0.12, 0.1), 0.15)


def _front(s: _Scene) -> None:
    """Draws objects between the camera and some of the faces."""
    for part, lot, layer in (
        (GLASSES, s.look.glasses, _glasses),
        (STRAND, s.look.strand, _strand),
        (HAND, s.look.hand, _hand),
    ):
        rows = np.flatnonzero(lot.ravel() < part)
        some = _Scene(s.muscles_NM[rows], s.look.take(rows), s.canvas[rows])
        layer(some)
        s.canvas[rows] = some.canvas


def _glasses(s: _Scene) -> None:
    look = s.look
    ring = np.abs(_ellipse(s.across - look.eye_distance, s.v - look.eye_height - 0.02, 0.23, 0.19)) - 0.014
    bridge = np.maximum(np.abs(s.v - look.eye_height) - 0.014, s.across - 0.09)
    s.paint(_inside(np.minimum(ring, bridge)), 0.1)


def _strand(s: _Scene) -> None:
    lean = s.head_u - s.look.front_x - s.look.front_lean * s.head_v
    s.paint(_inside(np.maximum(np.abs(lean) - 0.05, s.head_v - 0.1), 2 * EDGE), s.look.hair)


def _hand(s: _Scene) -> None:
    """Four fingers over the mouth's side of the face, entering at `front_x`."""
    look = s.look
    inward = (s.head_u - look.front_x - look.front_lean * s.head_v) * np.sign(look.front_x)
    finger = s.head_v * 5
    valley = np.abs(finger - np.floor(finger) - 0.5)
    s.paint(
        _inside(np.maximum(0.12 + 0.3 * valley - inward, np.abs(s.head_v - 0.45) - 0.4)),
        look.skin * (1.05 - 0.5 * valley * valley),
    )


def _photograph(canvas: Array, look: Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Applies light from one side, contrast, blur and sensor noise."""
    axis = ((np.arange(SIDE, dtype=np.float32) + 0.5) * 2 / SIDE - 1).astype(np.float32)
    canvas = canvas * (1 + look.light_x * axis[None, None, :] + look.light_y * axis[None, :, None])
    canvas = (canvas - 0.5) * look.contrast + (0.5 + look.brightness)
    for image, sigma in zip(canvas, look.blur.ravel(), strict=True):
        cv2.GaussianBlur(image, (0, 0), float(sigma), dst=image)
    canvas += look.noise * rng.standard_normal(canvas.shape, np.float32)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
