"""Results of a study as Markdown: scores, paired differences, and what the weights of the samples show.

The report ranks nothing. The caveats of grid.yaml come first, and again above each table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nla.config.train import ACCURACIES
from nla.study.origin import UNKNOWN

SMALLEST_P = 0.001
"""Smaller p-values are shown as below it."""


def report(results: Mapping[str, Any], name: str, figures: Sequence[str]) -> str:
    """The README of a study.

    Args:
        name: the study's folder, in which `dvc repro` makes the README.
        figures: paths of the figures.
    """
    caveats = results["caveats"]
    parts = [
        f"# {name}",
        "",
        *caveat_list(caveats),
        *left_out_list(results["left_out"]),
        INTRODUCTION.format(protocol=results["protocol"]),
        "",
    ]
    parts += [line for path in figures for line in (f"![{_caption(path)}]({path})", "")]
    if claims := results["claims"]:
        parts += ["## Claims", "", CLAIMS, "", *caveat_quote(caveats), *claims_table(claims), ""]
    if tuning := results.get("tuning"):
        parts += ["## Tuning", "", *caveat_quote(caveats), *tuning_table(tuning), ""]
    for title, condition in results["conditions"].items():
        parts += [f"## {title}", "", *caveat_quote(caveats), *figures_table(condition), ""]
        if beside := metrics_table(condition):
            parts += [METRICS_LEGEND, "", *caveat_quote(caveats), *beside, ""]
        parts += [*caveat_quote(caveats), *comparison_table(condition, results["reference"])]
        if any(method["weight"] for method in condition["methods"].values()):
            parts += ["", WEIGHT_LEGEND, "", *caveat_quote(caveats), *weight_table(condition)]
        parts += ["", *conditions_of(condition, name), ""]
    return "\n".join(parts)


def caveat_list(caveats: Sequence[str]) -> list[str]:
    """The caveats as the first section of the report."""
    return ["**Before comparing the methods:**", "", *(f"- {text}" for text in caveats), ""] if caveats else []


def left_out_list(left_out: Sequence[str]) -> list[str]:
    """What of the study is not in the tables."""
    return ["**Left out, as incomplete:**", "", *(f"- {text}" for text in left_out), ""] if left_out else []


def caveat_quote(caveats: Sequence[str]) -> list[str]:
    """The caveats in one paragraph, above a table."""
    return [f"> {' '.join(caveats)}", ""] if caveats else []


def tuning_table(tuning: Mapping[str, Any]) -> list[str]:
    """One row per method: validation scores with the grid's setting and with the chosen one."""
    conditions = tuning["conditions"]
    several = conditions if len(conditions) > 1 else []
    head = ["method", "settings", "as in the grid %", "chosen %", *(f"{name} (%)" for name in several), "chosen values"]
    rows = [_tuning_row(name, method, several) for name, method in tuning["methods"].items()]
    asked = {"seed": tuning["seed"], "objective": OBJECTIVES[tuning["objective"]]}
    text = TUNING.format(conditions=", ".join(conditions), average=AVERAGE if several else "", **asked)
    return [text, "", *_table(head, rows), "", *_made_by(tuning)]


def claims_table(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row per claim, with the other method that is hardest to be ahead of."""
    head = ["condition", "score", "method", "ahead of", "hardest", "difference", "p", "p after Holm", "holds"]
    return _table(head, map(_claim_row, claims))


def figures_table(condition: Mapping[str, Any]) -> list[str]:
    """One row per method; bold if it is ahead of each other method by the score."""
    metrics = ["accuracy %", "mean accuracy %", "macro-F1 %"]
    head = ["method", "n", *metrics, "clean validation %", "last epoch %", "best on test %", "minutes"]
    return _table(head, (_scores_row(name, method) for name, method in condition["methods"].items()))


def metrics_table(condition: Mapping[str, Any]) -> list[str]:
    """One row per method: what there is beside accuracy, for the epoch that validation chose and for the last one."""
    methods = condition["methods"]
    shown = {key: title for key, title in BESIDE.items() if any(key in method for method in methods.values())}
    head = ["method", *shown.values(), *(f"{title}, last epoch" for title in shown.values())]
    rows = [
        [name, *(_cell(scores, key) for scores in (method, method["last"]) for key in shown)]
        for name, method in methods.items()
    ]
    return _table(head, rows) if shown else []


def comparison_table(condition: Mapping[str, Any], reference: str) -> list[str]:
    """Differences in points with their 95 % intervals and p, from the hardest other method and the reference."""
    asked = [(other, metric) for other in (None, reference) for metric in ACCURACIES]
    titles = [f"{_words(metric)} vs {other or 'hardest other'}" for other, metric in asked]
    head = ["method", *(column for title in titles for column in (title, "p"))]
    rows = [
        [
            name,
            *(cell for other in (None, reference) for metric in ACCURACIES for cell in _against(method, metric, other)),
        ]
        for name, method in condition["methods"].items()
    ]
    return _table(head, rows)


def weight_table(condition: Mapping[str, Any]) -> list[str]:
    """What the weights of the training samples show, early → late in training; only what could be measured."""
    methods = condition["methods"]
    asked = {
        key: title
        for key, title in WEIGHT.items()
        if any(f"late.{key}" in method["weight"] for method in methods.values())
    }
    rows = [[name, *(_moments(method["weight"], key) for key in asked)] for name, method in methods.items()]
    return _table(["method", *asked.values()], rows)


def conditions_of(condition: Mapping[str, Any], name: str) -> Iterator[str]:
    """How the condition's numbers were made: seeds, machines, commits."""
    seeds, rows = ", ".join(map(str, condition["seeds"])), condition["test"]["rows"]
    counts = sorted({method["accuracy"]["n"] for method in condition["methods"].values()})
    n = " or ".join(map(str, counts))
    where, code = _made_by(condition)
    yield f"`dvc repro` in `studies/{name}`: seeds {seeds}, n = {n} runs per row, {rows:,} test rows. {where}"
    yield code
    if counts[0] == 1:
        yield ONE_SEED


def summary(results: Mapping[str, Any]) -> Iterator[str]:
    """The method with the highest mean under each condition, the claims, and the caveats, for the console."""
    for title, condition in results["conditions"].items():
        name, method = max(condition["methods"].items(), key=lambda item: item[1]["accuracy"]["mean"])
        accuracy, against = method["accuracy"], method["against"].get("accuracy")
        line = f"{title}: highest mean of accuracy {accuracy['mean']:.2%} ({name}, {accuracy['n']} seeds)"
        if against is not None:
            line += f", {_points(against['others'][against['hardest']])} points from {against['hardest']}"
        yield line
    for claim in results["claims"]:
        verdict = f"{'holds' if claim['holds'] else 'does not hold'} (p {_p(claim['p_holm'])} after Holm)"
        asked = f"{claim['method']} ahead by {_words(claim['score'])}, {claim['condition']}"
        yield f"claim: {asked}: {'not tested' if claim['hardest'] is None else verdict}"
    yield from (f"left out: {text}" for text in results["left_out"])
    yield from (f"caveat: {text}" for text in results["caveats"])


INTRODUCTION = """Generated by `python -m pipelines.study_report` from `records/`. Protocol: {protocol}.

Scores are on test: mean ± standard deviation over n runs with different seeds. Validation chose the
epoch by its labels as they are given, which can be as noisy as those of train. *Clean validation*, *last epoch* and
*best on test* are accuracies of the same trainings, too: with the epoch that the clean labels of validation choose,
with the last one, and with the one that would have been chosen on test, and its difference to what validation chose.

Differences are in points, on the same seeds and test rows. Their 95 % intervals are t intervals for seeds and test rows
that are both random, and crossed because every seed classifies every row; none is narrower than the t interval of the
seeds' scores alone. A method is *ahead* by a score, and in bold, if its interval against each other method lies above
zero. The *hardest other* method, named in parentheses, is the one that it is least certain to be ahead of. p is
two-sided, and not corrected for the number of comparisons: only the claims of a study are. Macro-F1 has no interval."""
CLAIMS = """A claim of `grid.yaml` is that a method is ahead of each of the others by a score. Its p is the largest over
these others, twice the one-sided one, and then corrected by Holm for the number of claims, including those that could
not be tested. It holds if the corrected p is below .05. The difference is that from the hardest of the others, in
points with its 95 % interval."""
METRICS_LEGEND = """*NLL* is that of the test labels, *KL from votes* the divergence of the predictions from the votes,
both in nats; the *most ambiguous fifth* of test are the rows whose votes have the highest entropy."""
WEIGHT_LEGEND = """NAW's weight w of the training samples, computed from the predictions of each method, early → late
in training: NLA uses it; for the others it is what it would have been. *Flipped labels by weight*: how well a low
weight detects synthetic label noise (AUROC; .5 is chance), and how well a low p_GT does. *Doubt* is the entropy of
the annotators' votes; the *most ambiguous fifth* has the highest. *Minorities* are the classes with fewer samples
than the median class."""
TUNING = """The same number of settings was tried for every method that has a search space: that of `grid.yaml`, and
random draws from the space. Each was trained under {conditions}, with seed {seed}, which no score below uses. The
setting with the highest {objective} on validation{average} is used under every condition. None of these runs used the
test split."""
AVERAGE = ", averaged over these conditions,"
OBJECTIVES = {
    "accuracy": "accuracy",
    "mean_accuracy": "mean accuracy",
    "both": "mean of accuracy and mean accuracy",
}
BESIDE = {"nll": "NLL", "kl": "KL from votes", "ambiguous_accuracy": "accuracy on the most ambiguous fifth %"}
ONE_SEED = "One seed: the intervals draw only test rows, so they compare these runs, not the methods."

WEIGHT = {
    "flipped_auroc": "flipped labels by weight (AUROC)",
    "flipped_auroc_p_GT": "flipped labels by p_GT (AUROC)",
    "doubtful_weight": "weight of the most ambiguous fifth / mean",
    "weight_correlation": "weight with doubt (Spearman)",
    "ambiguity_correlation": "1 - abs(p_GT - p_NN) with doubt",
    "minority_of_top_tenth": "minorities in the top tenth by weight",
}


def _made_by(part: Mapping[str, Any]) -> tuple[str, str]:
    """The machines and the commits."""
    made_by = part["made_by"]
    code = "" if made_by["codes"] == [UNKNOWN] else f"fingerprint {', '.join(made_by['codes'])} at "
    return f"{'. '.join(made_by['places'])}.", f"Code: {code}{', '.join(made_by['commits'])}."


def _tuning_row(name: str, method: Mapping[str, Any], several: Sequence[str]) -> list[str]:
    if method["chosen"] is None:
        return [name, "0", *([""] * (2 + len(several))), "nothing to tune"]
    first, chosen = method["settings"][0], method["chosen"]
    scores = (first["reached"], chosen["reached"], *(chosen["under"][condition] for condition in several))
    values = ", ".join(f"{key} {_short(value)}" for key, value in chosen["values"].items())
    return [name, str(len(method["settings"])), *map(_score, scores), values or "as in the grid"]


def _score(value: float | None) -> str:
    return "diverged" if value is None else f"{100 * value:.2f}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _scores_row(name: str, method: Mapping[str, Any]) -> list[str]:
    claimed = method["best_on_test"]
    return [
        name,
        str(method["accuracy"]["n"]),
        *(_bold(_percent(method[metric]), _is_ahead(method, metric)) for metric in ACCURACIES),
        _percent(method["macro_f1"]),
        *(_percent(method[selection]["accuracy"]) for selection in ("clean", "last")),
        f"{_percent(claimed['accuracy'])} ({100 * claimed['surplus']['mean']:+.2f})",
        f"{method['seconds']['mean'] / 60:.1f}",
    ]


def _is_ahead(method: Mapping[str, Any], metric: str) -> bool:
    return bool(method["against"].get(metric, {}).get("ahead"))


def _against(method: Mapping[str, Any], metric: str, other: str | None) -> tuple[str, str]:
    """The difference from `other` (None: the hardest one) with its interval, and its p."""
    against = method["against"].get(metric, {"hardest": None, "others": {}})
    name = other or against["hardest"]
    if name not in against["others"]:
        return "", ""
    found = against["others"][name]
    return _points(found) + ("" if other else f" ({name})"), _p(found["p"])


def _claim_row(claim: Mapping[str, Any]) -> list[str]:
    return [
        claim["condition"],
        _words(claim["score"]),
        claim["method"],
        ", ".join(claim["others"]),
        *_test_of(claim),
    ]


def _test_of(claim: Mapping[str, Any]) -> list[str]:
    if claim["hardest"] is None:
        return ["", "", "", "", "not tested"]
    holds = "yes" if claim["holds"] else "no"
    return [claim["hardest"], _points(claim), _p(claim["p"]), _p(claim["p_holm"]), holds]


def _points(found: Mapping[str, float]) -> str:
    """A difference with its interval."""
    low, value, high = (f"{100 * found[key]:+.2f}" for key in ("low", "difference", "high"))
    return f"{value} [{low}, {high}]"


def _p(p: float) -> str:
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _moments(weight: Mapping[str, Any], key: str) -> str:
    if f"late.{key}" not in weight:
        return ""
    text = " → ".join(_plain(weight[f"{moment}.{key}"]) for moment in ("early", "late"))
    return f"{text} (of all {_plain(weight['minority_share'])})" if key == "minority_of_top_tenth" else text


def _percent(spread: Mapping[str, Any]) -> str:
    return _with_std(spread, 100, 2)


def _cell(scores: Mapping[str, Any], key: str) -> str:
    """A metric of the table beside accuracy."""
    return "" if key not in scores else (_percent if key.endswith("accuracy") else _plain)(scores[key])


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
