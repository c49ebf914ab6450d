"""`nla card`: a folder with a model and its card, as model hubs take it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from nla.commands.arguments import add_model
from nla.commands.parser import Parser
from nla.console import complain, say
from nla.errors import CommandError
from nla.io import atomic_write
from nla.models.default_model import chosen_model
from nla.models.saved_model import WEIGHTS, load_model, weights_file
from nla.serving.model_card import README, UNSTATED, model_card, read_results, read_run


def main(argv: Sequence[str]) -> None:
    """Writes README.md, model.safetensors and model.json into a folder.

    Raises:
        CommandError: the folder is that of the model, or holds other files.
        WeightsError: the model cannot be loaded.
        DataError: a record is damaged.
    """
    options = _parser().parse_args(argv)
    weights, out = weights_file(chosen_model(options.model)), options.out
    files = {WEIGHTS: weights, Path(WEIGHTS).with_suffix(".json").name: weights.with_suffix(".json")}
    _check_folder(out, weights, {README, *files})
    _, card = load_model(weights)  # refuses damaged files
    results, run = read_results(options.metrics, card), read_run(options.run, card)
    for what, path, found in (("results", options.metrics, results), ("training", options.run, run)):
        if found is None:
            complain(f"warning: {path} is missing, or of another model: the card lacks the {what}")
    for name, path in files.items():
        with atomic_write(out / name) as part:
            shutil.copyfile(path, part)
    with atomic_write(out / README) as part:
        part.write_text(model_card(card, results, run, options.license), encoding="utf-8")
    say(f"{out}: {', '.join((README, *files))}. Read {README} and complete it before you publish it.")


def _check_folder(out: Path, weights: Path, names: set[str]) -> None:
    if out.resolve() == weights.parent.resolve():
        raise CommandError(f"{out}: is the folder of the model itself. Name another one.")
    if out.is_dir() and (others := sorted({path.name for path in out.iterdir()} - names - {".git", ".gitattributes"})):
        raise CommandError(f"{out}: must be new or hold a card alone (got {others[0]!r} too). Name another folder.")


def _parser() -> Parser:
    parser = Parser("nla card", description="A folder with a model and its card, as model hubs take it.")
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="the folder, new or of an earlier card")
    add_model(parser)
    add("--metrics", type=Path, default="reports/metrics.json", metavar="JSON", help="results (%(default)s)")
    add("--run", type=Path, default="run.json", metavar="JSON", help="the record of the training (%(default)s)")
    text = "of the weights, as Hugging Face spells it, such as cc-by-nc-4.0 (%(default)s: not stated)"
    add("--license", default=UNSTATED, metavar="ID", help=text)
    return parser
