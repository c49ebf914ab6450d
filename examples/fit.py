"""Training in one call, without Ray, MLflow and DVC: arrays in, a predictor and a saved model out.

python examples/fit.py
"""

from __future__ import annotations

import tempfile

from nla import Predictor, fit
from nla.data.sources.synthetic import CLASSES, make_faces


def main(faces: int = 2000, epochs: int = 5) -> float:
    """Trains on drawn faces; returns the accuracy on other ones."""
    result = fit(
        make_faces(faces, seed=0),
        classes=CLASSES,
        loss="nla",
        epochs=epochs,
        batch_size=50,
        params={"model": {"width": 8}, "augment": {"recipe": "flip"}},  # the sections of params.yaml
    )
    best = result.history[result.best_epoch - 1]
    print(f"best epoch: {result.best_epoch}, {best['valid_accuracy']:.1%} of the faces held out for validation")

    others, label_N = make_faces(400, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        result.save(folder)  # model.safetensors and model.json, which `nla predict --model FOLDER` reads too
        prediction = Predictor.load(folder).predict(others)
    right = sum(ours == CLASSES[label] for ours, label in zip(prediction.label, label_N, strict=True))
    print(f"accuracy on other faces: {right / len(others):.1%}")
    doubtful = prediction.ambiguity.argmax()
    print(f"most ambiguous: face {doubtful}, {CLASSES[label_N[doubtful]]}, taken for {prediction.label[doubtful]}")
    return right / len(others)


if __name__ == "__main__":
    main()
