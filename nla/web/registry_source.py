"""A model of MLflow's registry: models:/NAME@ALIAS, which can be another version tomorrow, or models:/NAME/VERSION."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from nla.errors import CommandError, RegistryError
from nla.serving.predictor import Predictor
from nla.serving.registry import FINGERPRINT, Registry, load_version
from nla.tracking.store import database_file, prepared_uri, store_errors

ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


class RegistrySource:
    """A version of a registered model in the store that MLFLOW_TRACKING_URI names, or in mlflow.db."""

    def __init__(self, address: str, device: str = "auto") -> None:
        """
        Args:
            address: models:/NAME@ALIAS or models:/NAME/VERSION.
            device: as `find_device` takes it.

        Raises:
            CommandError: it is not such an address.
            RegistryError: there is no store.
        """
        parts = ADDRESS.fullmatch(address)
        if parts is None:
            raise CommandError(f"model {address}: not an address of a model. Write models:/NAME@champion.")
        self._name, self._alias, self._number = parts["name"], parts["alias"], parts["version"]
        self._device = device
        self._uri = prepared_uri()
        database = database_file(self._uri, Path())
        if database is not None and not database.is_file():  # MLflow would create it
            raise RegistryError(f"{database}: no MLflow store. Set MLFLOW_TRACKING_URI, or run this in the project.")
        with store_errors(self._uri, RegistryError):
            self._registry = Registry(self._uri, self._name)

    def version(self) -> str:
        """As `ModelSource.version`. Raises RegistryError if the registry refuses or cannot be reached."""
        return self._number or str(self._find().version)

    def load(self) -> tuple[Predictor, str, str | None, str]:
        """As `ModelSource.load`.

        Raises:
            RegistryError: the registry refuses or cannot be reached.
            WeightsError: a file of the model is missing or damaged.
        """
        version = self._find()
        with store_errors(self._uri, RegistryError):
            predictor = load_version(version, self._device)
        return predictor, self._name, str(version.version), version.tags.get(FINGERPRINT, "")

    def _find(self) -> ModelVersion:
        client = self._registry.client
        with store_errors(self._uri, RegistryError):
            if self._number:
                return client.get_model_version(self._name, self._number)
            return client.get_model_version_by_alias(self._name, self._alias)
