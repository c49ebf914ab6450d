"""Do the intervals of nla.study hold the true difference between two methods? Simulated studies whose truth is known.

    python benchmarks/coverage_of_intervals.py        -> benchmarks/records/interval-coverage.json, some ten minutes

Each study has two methods, S seeds and the test rows of FERPlus. A method is right on a row with the probability
logistic(skill of method and class + ease of the row + what the row is easier for this method + what this seed adds to
the method, overall and in the class). All but the skill is normal; each study draws all of it again. So correctness is
correlated over seeds and methods, and seeds and rows are crossed. The true differences of accuracy and mean accuracy
are expectations over all draws, by quadrature. Skills are such that the recalls are those of `plus` and `ce` in
studies/ferplus, clean labels; the spreads of rows such that the variances of d over rows and of the rest are as there
(.01 to .05 and .07 to .09), and the spread of seeds is given as the standard deviation of the difference of accuracy
that seeds alone cause: 0 to 1 point there on clean labels, up to 2.4 with noise.

The interval of nla.study.statistics is compared with the alternatives: Satterthwaite's alone, its variance with S - 1
degrees of freedom, the t interval of the seeds' scores, and the bootstrap that draws seeds and rows (the pigeonhole
bootstrap, Owen 2007, Annals of Applied Statistics 1(2), 386-411), whose rows are drawn by their normal limit.

Legend: T studies, S seeds, N rows, C classes, R resamples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import measured_here, read_record, write_record
from scipy.optimize import brentq
from scipy.special import expit, roots_hermitenorm, stdtrit

from nla.study.statistics import Crossed, crossed

Floats = NDArray[np.float64]

RECORD = "interval-coverage"
SEEDS = (2, 3, 5, 10)
SPREADS = (0.0, 0.3, 0.8, 1.5, 2.3)
"""Standard deviations over seeds of the difference of accuracy, in points."""
STUDIES, BATCH, RESAMPLES = 4000, 50, 1000
SUPPORT = np.array((1090, 893, 396, 384, 273, 18, 83, 16))
RECALL_2C = np.array(
    ((0.81, 0.88, 0.87, 0.54, 0.75, 0.33, 0.40, 0.02), (0.86, 0.89, 0.86, 0.41, 0.69, 0.03, 0.23, 0.01))
)
ROW, ROW_OF_METHOD = 5.5, 1.6
"""Standard deviations of a row's ease and of its ease for one method, on the logit scale."""
CLASS_SHARE = 1.7
"""Standard deviation of what a seed adds in a class, over that of what it adds overall."""
NODE_K, WEIGHT_K = roots_hermitenorm(201)
CLASS_N = np.repeat(np.arange(len(SUPPORT)), SUPPORT)
SHARES = {"accuracy": SUPPORT / SUPPORT.sum(), "mean_accuracy": np.full(len(SUPPORT), 1 / len(SUPPORT))}
"""Share of each class in a score."""


def main() -> None:
    """Simulates all cases, writes the record, and prints the table of docs/studies.md."""
    cases = [case for seeds in SEEDS for spread in SPREADS for case in simulated(seeds, spread)]
    write_record(RECORD, {"studies": STUDIES, "level": 0.95, "cases": cases, **measured_here()})
    print(table(read_record(RECORD)))


def table(record: Mapping[str, Any]) -> str:
    """Coverage and mean width of the intervals as Markdown; one row per number of seeds and spread."""
    held = ("accuracy held %", "width", "mean accuracy held %", "width", "bootstrap held %", "seeds' t held %")
    lines = [f"| seeds | spread | {' | '.join(held)} |", "|---" * (2 + len(held)) + "|"]
    for accuracy, mean_accuracy in zip(record["cases"][::2], record["cases"][1::2], strict=True):
        ours, mean = accuracy["intervals"]["interval"], mean_accuracy["intervals"]["interval"]
        others = [f"{100 * accuracy['intervals'][name]['coverage']:.1f}" for name in ("pigeonhole", "seeds_only")]
        cells = [f"{value:.1f}" for one in (ours, mean) for value in (100 * one["coverage"], one["width"])]
        lines.append(f"| {accuracy['seeds']} | {accuracy['spread']} | {' | '.join([*cells, *others])} |")
    return "\n".join(lines)


def simulated(seeds: int, spread: float) -> Iterator[dict[str, Any]]:
    """One case: coverage and width of every interval, for each score."""
    started, rng = time.perf_counter(), np.random.default_rng([seeds, round(10 * spread)])
    skill_2C, seed_sd = skills(), spread / 100 / effect_of_seeds()
    found: dict[str, list[dict[str, Floats]]] = {score: [] for score in SHARES}
    for _ in range(STUDIES // BATCH):
        gain_TSN = studies(rng, seeds, skill_2C, seed_sd)
        by_class = np.split(gain_TSN, np.cumsum(SUPPORT)[:-1], axis=-1)
        for score, strata in (("accuracy", [gain_TSN]), ("mean_accuracy", by_class)):
            found[score].append(intervals(strata, rng))
    for score, parts in found.items():
        truth = true_difference(score, skill_2C, seed_sd)
        case = {"seeds": seeds, "spread": spread, "score": score, "true_difference": truth}
        case |= judged({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, truth)
        print(f"{time.perf_counter() - started:4.0f} s", case, flush=True)
        yield case


def studies(rng: np.random.Generator, seeds: int, skill_2C: Floats, seed_sd: float) -> Floats:
    """Difference of correctness of a batch of studies, [T, S, N]."""

    def normal(sd: float, *shape: int) -> NDArray[np.float32]:
        return np.float32(sd) * rng.standard_normal((BATCH, *shape), np.float32)

    rows, classes = len(CLASS_N), len(SUPPORT)
    ease = skill_2C[:, CLASS_N].astype(np.float32) + normal(ROW_OF_METHOD, 2, rows) + normal(ROW, 1, rows)
    level = normal(seed_sd, seeds, 2, 1) + normal(CLASS_SHARE * seed_sd, seeds, 2, classes)
    logit = ease[:, None] + level[..., CLASS_N]
    right = rng.random(logit.shape, np.float32) < expit(logit)
    return right[:, :, 0].astype(np.float64) - right[:, :, 1]


def intervals(strata: Sequence[Floats], rng: np.random.Generator) -> dict[str, Floats]:
    """Low and high end by every way, [2, T] each; and the estimated parts of the variance, [T]."""
    found, seeds = crossed(strata), strata[0].shape[1]
    widths = {
        "interval": found.half_width(),
        "satterthwaite": np.sqrt(found.variance) * stdtrit(found.df, 0.975),
        "seeds_df": np.sqrt(found.variance) * stdtrit(seeds - 1, 0.975),
        "seeds_only": np.sqrt(found.of_seeds) * stdtrit(seeds - 1, 0.975),
    }
    ends = {name: np.stack([found.value - half, found.value + half]) for name, half in widths.items()}
    drawn = {"pigeonhole": pigeonhole(strata, rng)}
    return {name: both.T for name, both in (ends | drawn).items()} | parts(found)


def parts(found: Crossed) -> dict[str, Floats]:
    """Estimated variances of one seed's score that is due to the seed, and, times N, of one row and of the rest."""
    rows = len(CLASS_N)
    return {
        "seed": (found.of_seeds - found.of_rest) * found.seeds,
        "row": (found.of_rows - found.of_rest) * rows,
        "rest": found.of_rest * found.seeds * rows,
    }


def pigeonhole(strata: Sequence[Floats], rng: np.random.Generator) -> Floats:
    """Low and high end of the percentile bootstrap, [2, T]."""
    seeds, share = strata[0].shape[1], 1 / len(strata)
    score_TS: Floats = share * sum(gain.mean(axis=-1) for gain in strata)
    covariance_TSS = np.zeros((BATCH, seeds, seeds))
    for gain in strata:
        centred = gain - gain.mean(axis=-1, keepdims=True)
        covariance_TSS += share**2 * centred @ centred.swapaxes(1, 2) / gain.shape[-1] ** 2
    drawn_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    variance_TR = np.einsum("rs,tsu,ru->tr", drawn_RS, covariance_TSS, drawn_RS, optimize=True)
    drawn_TR = score_TS @ drawn_RS.T + np.sqrt(variance_TR) * rng.standard_normal(variance_TR.shape)
    ends: Floats = np.percentile(drawn_TR, (2.5, 97.5), axis=1)
    return ends


def judged(found: dict[str, Floats], truth: float) -> dict[str, Any]:
    """How often each interval lies below and above the truth, and its mean width in points; the variances' means."""
    case: dict[str, Any] = {"intervals": {}}
    for name, values in found.items():
        if values.ndim == 1:
            case[f"{name}_variance"] = float(values.mean())
            continue
        low, high = values.T
        shares = {"coverage": (low <= truth) & (truth <= high), "below": high < truth, "above": low > truth}
        width = {"width": float(100 * (high - low).mean())}
        case["intervals"][name] = {key: float(share.mean()) for key, share in shares.items()} | width
    return case


def expected(function: Any, mean: Floats, sd: float) -> Floats:
    """Expectation of a function of a normal variable with these means, elementwise."""
    values: Floats = function(mean[..., None] + sd * NODE_K) @ WEIGHT_K / WEIGHT_K.sum()
    return values


def skills() -> Floats:
    """Skill of each method in each class that leads to RECALL_2C without an effect of seeds."""
    sd = np.hypot(ROW, ROW_OF_METHOD)

    def skill(recall: float) -> float:
        return float(brentq(lambda mean: expected(expit, np.array(mean), sd) - recall, -60, 60))

    return np.vectorize(skill)(RECALL_2C)


def effect_of_seeds() -> float:
    """Standard deviation of the difference of accuracy over seeds per unit of `seed_sd`, for small ones."""
    slope_2C = expected(lambda logit: expit(logit) * expit(-logit), skills(), np.hypot(ROW, ROW_OF_METHOD))
    effect_2C = SHARES["accuracy"] * slope_2C
    return float(np.sqrt((effect_2C.sum(axis=1) ** 2 + CLASS_SHARE**2 * (effect_2C**2).sum(axis=1)).sum()))


def true_difference(score: str, skill_2C: Floats, seed_sd: float) -> float:
    """The difference over all seeds and rows."""
    sd = float(np.sqrt(ROW**2 + ROW_OF_METHOD**2 + (1 + CLASS_SHARE**2) * seed_sd**2))
    recall_2C = expected(expit, skill_2C, sd)
    return float((SHARES[score] * (recall_2C[0] - recall_2C[1])).sum())


if __name__ == "__main__":
    main()
