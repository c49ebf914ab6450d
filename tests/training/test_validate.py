from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from training_parts import SINGLE, MakeSamples, make_job

from nla.models.classifier import Classifier
from nla.training.validation import validation_metrics


def model(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return make_job().build()


@pytest.mark.parametrize("bf16", [False, True])
def test_metrics_sample_by_sample(tiny_samples: MakeSamples, bf16: bool) -> None:
    samples, net = tiny_samples(37), model()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        p_NC = net.eval()(torch.from_numpy(samples.images_NHWC)).double().softmax(1).numpy()
    hit_N = p_NC.argmax(1) == samples.label_N
    recalls = [hit_N[samples.label_N == c].mean() for c in range(3)]
    expected = {
        "valid_accuracy": hit_N.mean(),
        "valid_mean_accuracy": np.mean(recalls),
        "valid_macro_f1": f1_score(samples.label_N, p_NC.argmax(1), average="macro"),
        "valid_nll": -np.mean([np.log(p[label]) for p, label in zip(p_NC, samples.label_N, strict=True)]),
    }
    assert validation_metrics(net, samples, SINGLE, bf16) == pytest.approx(expected, rel=1e-4)


def test_a_class_without_rows_is_no_part_of_the_mean(tiny_samples: MakeSamples) -> None:
    samples = tiny_samples(40)
    few = replace(samples, label_N=samples.label_N.clip(max=1))
    metrics, net = validation_metrics(model(), few, SINGLE, False), model()
    with torch.inference_mode():
        hit_N = net.eval()(torch.from_numpy(few.images_NHWC)).argmax(1).numpy() == few.label_N
    assert metrics["valid_mean_accuracy"] == pytest.approx(np.mean([hit_N[few.label_N == c].mean() for c in (0, 1)]))


def test_an_impossible_label_costs_a_finite_amount(tiny_samples: MakeSamples) -> None:
    net, samples = model(), tiny_samples(8)
    torch.nn.init.zeros_(net.get_parameter("backbone.fc.weight"))
    with torch.no_grad():
        net.get_parameter("backbone.fc.bias").copy_(torch.tensor([1e4, 0.0, 0.0]))
    wrong = replace(samples, label_N=np.ones(8, np.int64))
    nll = validation_metrics(net, wrong, SINGLE, False)["valid_nll"]
    assert nll == pytest.approx(-np.log(np.finfo(np.float32).tiny))


def test_the_mode_of_the_model_stays(tiny_samples: MakeSamples) -> None:
    net = model().train()
    validation_metrics(net, tiny_samples(8), SINGLE, False)
    assert net.training
