"""Classes of a set and of a model, matched by name."""

from __future__ import annotations

import numpy as np

from nla.commands.labelled_set import NONE, match_classes

MODEL = ("neutral", "happiness", "surprise", "anger")


def test_by_name_in_the_order_of_the_model() -> None:
    found = match_classes(("anger", "odd", "happy", "neutral"), MODEL, {"happy": "happiness"}, shared=False)
    assert found.classes == MODEL
    assert found.index_S.tolist() == [3, NONE, 1, 0]
    shared = match_classes(("anger", "odd", "happy", "neutral"), MODEL, {"happy": "happiness"}, shared=True)
    assert shared.classes == ("neutral", "happiness", "anger")
    assert shared.index_S.tolist() == [2, NONE, 1, 0]


def test_a_renamed_class_no_longer_matches_by_its_old_name() -> None:
    found = match_classes(("anger", "neutral"), MODEL, {"anger": "surprise"}, shared=True)
    assert found.classes == ("neutral", "surprise")
    assert found.index_S.tolist() == [1, 0]


def test_probabilities_among_the_shared() -> None:
    p_NC = np.array([[0.1, 0.2, 0.3, 0.4], [0, 0.5, 0.5, 0]], np.float32)
    shared = match_classes(("anger", "neutral"), MODEL, {}, shared=True)
    np.testing.assert_allclose(shared.restrict(p_NC), [[0.2, 0.8], [0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(match_classes(("anger",), MODEL, {}, shared=False).restrict(p_NC), p_NC, rtol=1e-6)
