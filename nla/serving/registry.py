"""MLflow's model registry: one registered model per data set, whose alias `champion` names its best version."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from nla.serving.predictor import Predictor
from nla.telemetry import disable_telemetry

disable_telemetry()  # MLflow starts its telemetry on import

from mlflow import MlflowClient, set_tracking_uri  # noqa: E402
from mlflow.artifacts import download_artifacts  # noqa: E402
from mlflow.entities.model_registry import ModelVersion  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models.model import ModelInfo  # noqa: E402

from nla.tracking.store import file_transfer  # noqa: E402

CHAMPION = "champion"
FINGERPRINT, SHA256, VIEWS, CODE = "nla.fingerprint", "nla.weights_sha256", "nla.views", "nla.served_code"
LIMITS, CALIBRATION = "nla.image_limits", "nla.calibration"
"""Tags of a version that identify the model, its calibration, the code that serves it, and the largest image
that it takes."""
README_TAG = "nla.model_card"
"""Tag with the path of the card for readers among the files of a version; older versions lack both."""


class Registry:
    """The registered model `name` in the store `uri`, as returned by `configure`."""

    def __init__(self, uri: str, name: str) -> None:
        set_tracking_uri(uri)  # read by download_artifacts
        self.client, self.name = MlflowClient(uri), name

    def find(self, tags: Mapping[str, str]) -> ModelVersion | None:
        """A version that has all of `tags`."""
        versions = self.client.search_model_versions(f"name = '{self.name}'")
        return next((version for version in versions if tags.items() <= version.tags.items()), None)

    def add(self, model: ModelInfo, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Registers a logged model of the run as a new version."""
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            try:
                self.client.create_registered_model(self.name)
            except MlflowException as error:  # another clone was faster
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        return self.client.create_model_version(self.name, model.model_uri, run_id, dict(tags), model_id=model.model_id)

    def champion(self) -> ModelVersion | None:
        """The version with the alias, if any has it."""
        number = self.client.get_registered_model(self.name).aliases.get(CHAMPION)
        return None if number is None else self.client.get_model_version(self.name, str(number))

    def promote(self, version: ModelVersion, instead_of: ModelVersion | None) -> bool:
        """Makes `version` the champion in place of the one it was compared with; False if another is champion by now.

        A server has no call that does both at once: what remains open are the milliseconds between its two answers.
        """
        present = self.champion()
        if (present and present.version) != (instead_of and instead_of.version):
            return False
        self.client.set_registered_model_alias(self.name, CHAMPION, version.version)
        return True

    def describe(self, version: ModelVersion, text: str) -> None:
        """Sets the description that MLflow's UI shows."""
        self.client.update_model_version(self.name, version.version, text)


@contextlib.contextmanager
def downloaded(version: ModelVersion) -> Iterator[Path]:
    """Yields a folder with the version's files, for the length of the block."""
    with tempfile.TemporaryDirectory() as folder:
        with file_transfer():
            path = download_artifacts(f"models:/{version.name}/{version.version}/artifacts", dst_path=folder)
        yield Path(path)


def load_version(version: ModelVersion, device: str = "auto") -> Predictor:
    """The version's weights under the current code, on a device; no code stored with it is executed."""
    with downloaded(version) as folder:
        return Predictor.load(folder, device=device)
