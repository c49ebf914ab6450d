"""Faces in photos: detectors that find them, and the crop of a face for a model.

    finder = FaceFinder(stated_crop(predictor.crop), predictor.model.image.size)
    found = finder.find(photo_HWC)                        # boxes, crops, and a note
    predictor.predict(list(found.crops))

or step by step: `open_detector().detect(photo_HWC)`, then `crop_face(photo_HWC, face, crop_for(crop, detector.name))`.
"""

from nla.faces.choice import available, open_detector
from nla.faces.crop import Crop, crop_face, crop_for, read_crop, stated_crop
from nla.faces.detector import Detector, Face
from nla.faces.photo import FaceFinder, Found

__all__ = [
    "Crop",
    "Detector",
    "Face",
    "FaceFinder",
    "Found",
    "available",
    "crop_face",
    "crop_for",
    "open_detector",
    "read_crop",
    "stated_crop",
]
