"""Classes found by name."""

from __future__ import annotations

import numpy as np

from nla.commands.measure import NONE, match

MODEL = ("neutral", "happiness", "surprise", "anger")


def test_by_name_in_the_order_of_the_model() -> None:
    found = match(("anger", "odd", "happy", "neutral"), MODEL, {"happy": "happiness"}, shared=False)
    assert found.classes == MODEL
    assert found.place_S.tolist() == [3, NONE, 1, 0]
    shared = match(("anger", "odd", "happy", "neutral"), MODEL, {"happy": "happiness"}, shared=True)
    assert shared.classes == ("neutral", "happiness", "anger")
    assert shared.place_S.tolist() == [2, NONE, 1, 0]


def test_a_renamed_class_has_its_old_name_no_more() -> None:
    found = match(("anger", "neutral"), MODEL, {"anger": "surprise"}, shared=True)
    assert found.classes == ("neutral", "surprise")
    assert found.place_S.tolist() == [1, 0]


def test_probabilities_among_the_shared() -> None:
    p_NC = np.array([[0.1, 0.2, 0.3, 0.4], [0, 0.5, 0.5, 0]], np.float32)
    shared = match(("anger", "neutral"), MODEL, {}, shared=True)
    np.testing.assert_allclose(shared.among(p_NC), [[0.2, 0.8], [0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(match(("anger",), MODEL, {}, shared=False).among(p_NC), p_NC, rtol=1e-6)
