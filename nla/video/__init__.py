"""Clips of faces: their frames, labels and noise, and the models that see several frames at once (docs/video.md)."""
