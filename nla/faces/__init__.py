"""Faces in photos: detectors that find them, and the crop of a face for a model.

detector = open_detector()                    # YuNet if its file is there, else dlib's
for face in detector.detect(photo_HWC):
    pixels = crop_face(photo_HWC, face, crop)  # as `Predictor.predict` takes them
"""

from nla.faces.choice import open_detector
from nla.faces.crop import Crop, crop_face, crop_of
from nla.faces.detector import Detector, Face

__all__ = ["Crop", "Detector", "Face", "crop_face", "crop_of", "open_detector"]
