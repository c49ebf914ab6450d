"""A second network beside the trained one, for methods in which two networks check each other."""

from __future__ import annotations

from torch import nn

from nla.errors import ConfigError
from nla.methods.base import Context
from nla.models.classifier import Classifier


def second_network(context: Context, method: str) -> Classifier:
    """A network of the trained architecture, from the same initial weights except for the last layer.

    The last layer is reinitialised: with the same pretrained weights, the two networks would never differ.

    Args:
        context: the run that the method is part of.
        method: its name, for the message.

    Raises:
        ConfigError: the network has no linear layer.
    """
    network = context.build()
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError(f"model.name: {method} needs a network with a linear layer. Use resnet18, for example.")
    layers[-1].reset_parameters()
    return network
