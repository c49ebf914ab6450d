"""A search over the learning rate and NLA's lam with Ray Tune, two trials at a time, each of which calls `fit`.

    python examples/sweep.py

The pipeline has a search of its own, with checkpoints, more schedulers and all parameters: docs/tuning.md.
"""

from __future__ import annotations

import tempfile
from typing import Any

from ray import tune

from nla import fit
from nla.data.sources.synthetic import CLASSES, make_faces
from nla.training.callbacks import Callback


class Report(Callback):
    """Reports the validation metrics of each epoch to Ray Tune."""

    def on_epoch_end(self, row: dict[str, float]) -> None:
        tune.report({"valid_accuracy": row["valid_accuracy"], "epoch": int(row["epoch"])})


def trial(config: dict[str, Any]) -> None:
    """One trial, in a process of its own."""
    fit(
        make_faces(config["faces"]),
        classes=CLASSES,
        loss="nla",
        epochs=config["epochs"],
        batch_size=50,
        lr=config["lr"],
        params={"model": {"width": 8}, "loss": {"lam": config["lam"]}},
        device="cpu",
        callbacks=[Report()],
        progress=False,
    )


def main(faces: int = 600, epochs: int = 2, trials: int = 2) -> tune.Result:
    """Runs the trials; returns the best."""
    space = {"lr": tune.loguniform(1e-3, 1e-2), "lam": tune.uniform(0.2, 0.9), "faces": faces, "epochs": epochs}
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(metric="valid_accuracy", mode="max", num_samples=trials),
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        )
        best = tuner.fit().get_best_result()
    assert best.config is not None and best.metrics is not None
    print(f"best: lr {best.config['lr']:.4f}, lam {best.config['lam']:.2f}: {best.metrics['valid_accuracy']:.1%}")
    return best


if __name__ == "__main__":
    main()
