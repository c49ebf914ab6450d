"""Results of a study as Markdown: the scores of each method, whom it beats, and what its weights do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nla.config.train import METRICS

SMALLEST_P = 0.001
"""Smaller p-values are shown as below it: a few thousand resamples cannot resolve them."""


def report(results: Mapping[str, Any], name: str, figures: Sequence[str]) -> str:
    """The README of a study.

    Args:
        name: the study's folder, in which `dvc repro` makes the README.
        figures: paths of the figures.
    """
    known = {"protocol": results["protocol"], "rows": results["test"]["rows"], "resamples": results["resamples"]}
    parts = [f"# {name}", "", INTRODUCTION.format(**known), ""]
    parts += [line for path in figures for line in (f"![{_caption(path)}]({path})", "")]
    if tuning := results.get("tuning"):
        parts += ["## Tuning", "", *tuning_table(tuning), ""]
    for title, condition in results["conditions"].items():
        parts += [f"## {title}", "", *figures_table(condition), "", *comparison_table(condition, results["reference"])]
        if any(of["claims"] for of in condition["methods"].values()):
            parts += ["", CLAIMS_LEGEND, "", *claims_table(condition)]
        parts += ["", *conditions_of(condition, name), ""]
    return "\n".join(parts)


def tuning_table(tuning: Mapping[str, Any]) -> list[str]:
    """One row per method: validation scores with the grid's setting and with the chosen one."""
    conditions = tuning["conditions"]
    several = conditions if len(conditions) > 1 else []
    head = ["method", "settings", "as in the grid %", "chosen %", *(f"{name} %" for name in several), "the chosen one"]
    rows = [_tuning_row(name, of, several) for name, of in tuning["methods"].items()]
    asked = {"seed": tuning["seed"], "objective": OBJECTIVES[tuning["objective"]]}
    text = TUNING.format(conditions=", ".join(conditions), average=AVERAGE if several else "", **asked)
    return [text, "", *_table(head, rows), "", *_made_by(tuning)]


def figures_table(condition: Mapping[str, Any]) -> list[str]:
    """One row per method; bold if it beats its best rival with the whole 95 % interval above zero."""
    head = ["method", "n", "accuracy %", "mean accuracy %", "macro-F1 %", "last epoch %", "best on test %", "minutes"]
    return _table(head, (_figures_row(name, of) for name, of in condition["methods"].items()))


def comparison_table(condition: Mapping[str, Any], reference: str) -> list[str]:
    """Differences in points with their 95 % intervals and Holm's p, against the best rival and the reference."""
    kinds = {"rival": "its best rival", "reference": reference}
    titles = [f"{metric.replace('_', ' ')} against {of}" for of in kinds.values() for metric in METRICS]
    head = ["method", *(column for title in titles for column in (title, "p"))]
    rows = [
        [name, *(cell for kind in kinds for metric in METRICS for cell in _against(of, metric, kind))]
        for name, of in condition["methods"].items()
    ]
    return _table(head, rows)


def claims_table(condition: Mapping[str, Any]) -> list[str]:
    """What the weights of the training samples show, early → late in training; only what could be measured."""
    methods = condition["methods"]
    asked = {
        key: title for key, title in CLAIMS.items() if any(f"late.{key}" in of["claims"] for of in methods.values())
    }
    rows = [[name, *(_moments(of["claims"], key) for key in asked)] for name, of in methods.items()]
    return _table(["method", *asked.values()], rows)


def conditions_of(condition: Mapping[str, Any], name: str) -> Iterator[str]:
    """How the condition's figures were made: seeds, machines, commits."""
    seeds = ", ".join(map(str, condition["seeds"]))
    counts = sorted({of["accuracy"]["n"] for of in condition["methods"].values()})
    n = " or ".join(map(str, counts))
    where, code = _made_by(condition)
    yield f"`dvc repro` in `studies/{name}`: seeds {seeds}, n = {n} a row. {where}"
    yield code
    if counts[0] == 1:
        yield ONE_SEED


INTRODUCTION = """Made by `python -m pipelines.study_report` from `records/`. Protocol: {protocol}.

Scores are on the {rows:,} test rows: mean ± standard deviation over n trainings with different seeds. *Last epoch*
and *best on test* are accuracies, too. The latter is what would have been claimed if the epoch had been chosen on
test, with the difference to the epoch that validation chose; here it chooses nothing.

Differences are in points, paired by seed and test row, with a 95 % interval from a bootstrap that draws seeds and
test rows {resamples:,} times. The interval is conservative if all seeds reach the same level. If they do not, with
five seeds or fewer it is too narrow and p too small; the standard deviations are then the better guide. The best
rival is the other method with the highest mean on test. p is two-sided, and corrected by Holm over all comparisons of
its table. Bold: the interval against the best rival is above zero."""
CLAIMS_LEGEND = """NAW's weight w of the training samples, computed from the predictions of each method, early → late
in training: NLA uses it; for the others it is what it would have been. *Flipped by weight*: how well a low weight
detects wrong labels (AUROC; .5 is chance), and how well a low p_GT alone does. *Doubt* is the entropy of the
annotators' votes; the *most ambiguous fifth* has the highest. *Minorities* are the classes with fewer samples than
the median class."""
TUNING = """The same number of settings was tried for every method that has something to tune: the one of `grid.yaml`,
and random draws from its space there. Each was trained under {conditions}, with seed {seed}, which no score below
uses. The setting with the best {objective} on validation{average} is used under every condition. None of these
trainings looked at test."""
AVERAGE = ", averaged over these conditions,"
OBJECTIVES = {
    "accuracy": "accuracy",
    "mean_accuracy": "mean accuracy",
    "both": "mean of accuracy and mean accuracy",
}
ONE_SEED = "One seed: the intervals draw only test rows, so they compare these trainings, not the methods."

CLAIMS = {
    "flipped_auroc": "flipped labels by weight (AUROC)",
    "flipped_auroc_p_GT": "by p_GT alone",
    "doubtful_weight": "weight of the most ambiguous fifth / mean",
    "weight_correlation": "weight with doubt (Spearman)",
    "ambiguity_correlation": "1 - abs(p_GT - p_NN) with doubt",
    "minority_of_top_tenth": "minorities in the top tenth by weight",
}


def _made_by(what: Mapping[str, Any]) -> tuple[str, str]:
    """The machines and the commits."""
    made_by = what["made_by"]
    return f"{'. '.join(made_by['places'])}.", f"Code: {', '.join(made_by['commits'])}."


def _tuning_row(name: str, of: Mapping[str, Any], several: Sequence[str]) -> list[str]:
    if of["chosen"] is None:
        return [name, "0", *([""] * (2 + len(several))), "nothing to tune"]
    first, chosen = of["settings"][0], of["chosen"]
    reached = (first["reached"], chosen["reached"], *(chosen["under"][condition] for condition in several))
    values = ", ".join(f"{key} {_short(value)}" for key, value in chosen["values"].items())
    return [name, str(len(of["settings"])), *map(_reached, reached), values or "as in the grid"]


def _reached(value: float | None) -> str:
    return "diverged" if value is None else f"{100 * value:.2f}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _figures_row(name: str, of: Mapping[str, Any]) -> list[str]:
    claimed = of["best_on_test"]
    return [
        name,
        str(of["accuracy"]["n"]),
        *(_bold(_percent(of[metric]), _is_best(of, metric)) for metric in METRICS),
        _percent(of["macro_f1"]),
        _percent(of["last"]["accuracy"]),
        f"{_percent(claimed['accuracy'])} ({100 * claimed['surplus']['mean']:+.2f})",
        f"{of['seconds']['mean'] / 60:.1f}",
    ]


def _is_best(of: Mapping[str, Any], metric: str) -> bool:
    against = of["against"].get(metric, {})
    return "rival" in against and against["rival"]["low"] > 0


def _against(of: Mapping[str, Any], metric: str, kind: str) -> tuple[str, str]:
    """The difference with its interval, and its p."""
    against = of["against"].get(metric, {}).get(kind)
    if against is None:
        return "", ""
    low, value, high = (100 * against[name] for name in ("low", "difference", "high"))
    whom = f" ({against['method']})" if kind == "rival" else ""
    p = against["p_holm"]
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]{whom}", f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def _moments(claims: Mapping[str, Any], key: str) -> str:
    if f"late.{key}" not in claims:
        return ""
    text = " → ".join(_plain(claims[f"{moment}.{key}"]) for moment in ("early", "late"))
    return f"{text} (of all {_plain(claims['minority_share'])})" if key == "minority_of_top_tenth" else text


def _percent(spread: Mapping[str, Any]) -> str:
    return _with_std(spread, 100, 2)


def _plain(spread: Mapping[str, Any]) -> str:
    return _with_std(spread, 1, 3)


def _with_std(spread: Mapping[str, Any], scale: float, digits: int) -> str:
    """The mean, with its standard deviation if there is one."""
    mean = f"{scale * spread['mean']:.{digits}f}"
    return mean if spread["std"] is None else f"{mean} ± {scale * spread['std']:.{digits}f}"


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _caption(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(".png").replace("_", " ")
