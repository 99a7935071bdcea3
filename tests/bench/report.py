"""What every measurement prints: medians and all runs, the command that made them, and how busy the machine was."""

import argparse
import json
import os
import shlex
import statistics
import sys


def options(description: str | None, runs: int) -> argparse.ArgumentParser:
    """The options that all measurements have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help="rounds, each with every variant once (%(default)s)")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    return parser


class Report:
    """Collects runs from the constructor on; `show` ends it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._load_before = os.getloadavg()[0]
        self._runs: dict[str, dict[str, list[float]]] = {}

    def add(self, variant: str, figures: dict[str, float]) -> None:
        """One run's figures, by what was measured and its unit."""
        for measure, figure in figures.items():
            self._runs.setdefault(variant, {}).setdefault(measure, []).append(figure)
        told = ", ".join(f"{measure} {_short(figure)}" for measure, figure in figures.items())
        print(f"{variant}: {told}", file=sys.stderr, flush=True)

    def add_ratios(self, measure: str, of: str, to: str) -> None:
        """The variant `to`'s figure by that of each other variant in the same round: more than 1 where it took less."""
        reference = self._runs[to][of]
        for variant, measures in self._runs.items():
            if variant != to:
                measures[measure] = [a / b for a, b in zip(reference, measures[of], strict=True)]

    def medians(self, measure: str) -> dict[str, float]:
        """By variant, of those that have it."""
        return {name: statistics.median(runs[measure]) for name, runs in self._runs.items() if measure in runs}

    def show(self, as_json: bool) -> None:
        """To standard output."""
        load = {"before": self._load_before, "after": os.getloadavg()[0]}
        command = shlex.join(["python", *sys.orig_argv[1:]])
        if as_json:
            print(json.dumps({"title": self.title, "command": command, "load": load, "runs": self._runs}))
            return
        words = f"{load['before']:.2f} before, {load['after']:.2f} after, {os.cpu_count()} CPUs"
        print(f"\n{self.title}\n  command  {command}\n  load     {words}\n")
        rows = [("variant", "measure", "median", "runs")]
        for variant, measures in self._runs.items():
            for measure, runs in measures.items():
                rows.append((variant, measure, _short(statistics.median(runs)), " ".join(map(_short, runs))))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for variant, measure, middle, all_runs in rows:
            print(f"  {variant:{widths[0]}}  {measure:{widths[1]}}  {middle:>{widths[2]}}  {all_runs}")


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"
