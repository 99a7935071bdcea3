"""`foldcast replay`: a stretch of the input folded again, beside what was published, and one forecast explained."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from worker.refusal import WrongUsage, printable

if TYPE_CHECKING:
    from worker.replay.run import Compared, Replayed
    from worker.settings.settings import Settings

EXAMPLE = "foldcast replay --partition 1 --stream JFK.temp --from 37883 --to 37884"
QUIET_S = 2.0  # before a bar is drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("--partition", type=int, required=True, metavar="P", help="of the input")
    parser.add_argument("--stream", metavar="S", help="compare this one alone; with one offset, explain its forecast")
    parser.add_argument("--from", type=int, dest="first", metavar="OFFSET", help="default: the oldest image there is")
    parser.add_argument("--to", type=int, metavar="OFFSET", help="excluded (default: what the group has committed)")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="forecasts to show, the worst first (10)")
    parser.add_argument("--json", action="store_true", help="print one object, for programs")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Print what the replay found. Returns the exit code: 0 where it agrees with all. Raises Refusal, BrokerError."""
    for option, number in (("--from", given.first), ("--to", given.to), ("--limit", given.limit)):
        if number is not None and number < 0:
            raise WrongUsage(f"{option} is {number}; it must be 0 or more")
    if None not in (given.first, given.to) and given.first >= given.to:
        raise WrongUsage(f"--from is {given.first} and --to is {given.to}; the second must be more, it is excluded")
    from tqdm import tqdm

    from worker.kernels.warming import compiling_is_told  # they load numba
    from worker.replay.run import Asked, Replayed, replay

    asked, done = Asked(given.partition, given.first, given.to, given.stream, given.limit), Replayed(0, 0, 0)
    with compiling_is_told(), tqdm(desc="replayed", unit=" records", delay=QUIET_S, disable=None) as bar:
        for done in replay(settings, asked):
            bar.update(done.records - bar.n)
    print(json.dumps(_facts(given, done), indent=2) if given.json else _words(given, done))
    return 0 if done.agrees else 1


def _facts(given: argparse.Namespace, done: "Replayed") -> dict[str, Any]:
    return {
        "partition": given.partition,
        "stream": given.stream,
        "from": done.first,
        "to": done.end,
        "image": done.image,
        "records": done.records,
        "adoptions": done.adoptions,
        "compared": done.compared,
        "agreed": done.agreed,
        "largest_difference": done.largest,
        "other_weights": done.other_weights,
        "unpublished": done.unpublished,
        "not_replayed": done.not_replayed,
        "forecasts": [one._asdict() for one in done.worst],
        "explanation": done.explanation,
    }


def _words(given: argparse.Namespace, done: "Replayed") -> str:
    largest = "" if done.largest is None else f"; the largest difference is {done.largest:.3g} deviations"
    lines = [
        f"partition {given.partition}, offsets {done.first:,} to {done.end:,}, from the image at {done.image:,}: "
        f"{done.records:,} records, {done.adoptions:,} adoptions",
        f"{done.compared:,} forecasts compared, {done.agreed:,} agree{largest}",
    ]
    problems = {
        "were published with weights that the changelog does not have any more": done.other_weights,
        "are not in the output: its retention may have passed them": done.unpublished,
        "are in the output and are not given again": done.not_replayed,
    }
    lines += [f"NO  {number:,} forecasts {problem}" for problem, number in problems.items() if number]
    lines += [_line(one) for one in done.worst]
    return "\n".join([*lines, *_explained(done.explanation)])


def _line(one: "Compared") -> str:
    now, was = (", ".join(f"{mean:.9g}" for mean in means) for means in (one.now, one.published))
    words = f"{one.offset}  {printable(one.stream)}  {one.difference:.3g}  now {now} ({one.model})"
    return f"{words}  published {was} ({one.published_model})"


def _explained(explanation: dict[str, Any] | None) -> list[str]:
    """One forecast's parts in words, numbers to six digits."""
    if explanation is None:
        return []
    lines = [f"value {explanation['value']:.6g}, counts as {explanation['counts_as']:.6g}"]
    for horizon, parts in explanation["horizons"].items():
        lines.append(
            f"  horizon {horizon}: {parts['mean']:.6g}, guard {parts['guard']:.3f}, scale {parts['scale']:.6g}"
        )
        for title in ("experts", "stacking"):
            words = [f"{n} {one['forecast']:.6g} x {one['weight']:.3f}" for n, one in parts[title].items()]
            lines += [f"    {title}: {', '.join(words)}"] if words else []
        quantiles = ", ".join(f"{level} {value:.6g}" for level, value in parts["quantiles"].items())
        lines.append(
            f"    interval: width {parts['width']:.6g}, error scale {parts['error_scale']:.6g}, factor of slot "
            f"{parts['slot']} {parts['slot_factor']:.3f}; {quantiles}"
        )
    return lines
