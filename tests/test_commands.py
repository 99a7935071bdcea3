"""Every command in README and docs is run by a test, as it stands there, or has a reason why not."""

import re
from pathlib import Path

import pytest

from tests.rigs.documented import PAGES, ROOT, command, commands, programs, run

# By how it starts: the test that runs it
RUN = {
    "foldcast topics create": "tests/kafka/test_documented_commands.py",
    "foldcast check": "tests/kafka/test_documented_commands.py",
    "foldcast run": "tests/kafka/test_documented_commands.py",
    "foldcast dead-letters list": "tests/kafka/test_documented_commands.py",
    "foldcast dead-letters show": "tests/kafka/test_documented_commands.py",
    "kafka-acls.sh": "tests/security/test_tls_and_logins.py",
    "docker compose -f deploy/compose.yaml exec postgres": "tests/kafka/test_sinks.py",
    "kubectl -n foldcast patch statefulset": "tests/deploy/test_kubernetes.py",
    "python -c": "tests/test_commands.py",
    "foldcast backtest jfk.csv": "tests/test_commands.py",
    **dict.fromkeys(
        (
            "foldcast backtest parking.csv",
            "foldcast pretrain before.csv",
            "FOLDCAST_MODEL__CHECKPOINT=base.safetensors foldcast backtest after.csv",
            "foldcast inspect",
            "foldcast backtest prices.csv",
            "foldcast replay --partition 1 --stream AMZN",
            "python send.py",
            "python prices.py",
        ),
        "tests/kafka/test_worked_examples.py",
    ),
    "python -m worker.demo.broker": "tests/kafka/test_kafka_nodes.py",
}
ENGINE = "a container engine that fetches images; tests/e2e builds the image and runs Compose where there is one"
CLUSTER = "it asks a Kubernetes cluster; what it would apply is validated, and built by kustomize"
MEASURE = "it measures for minutes, and its numbers are of one machine"
NOT_RUN = {
    "connect-standalone.sh": "tests/kafka/test_sinks.py starts what it starts, with these files",
    "docker ": ENGINE,
    "TORCH_INDEX_URL=": ENGINE,
    "kubectl apply": CLUSTER,
    "kubectl port-forward": CLUSTER,
    "kubectl -n foldcast delete": CLUSTER,
    "kubectl -n foldcast port-forward": CLUSTER,
    "kubectl -n foldcast rollout": CLUSTER,
    "kubectl -n foldcast scale": CLUSTER,
    "make setup": "the tests run in what it makes",
    "python -m worker.demo.charts": "set-up has run it; tests/worker/demo/test_charts.py takes it apart",
    "foldcast pretrain --corpus": "it trains for many minutes; tests/worker/pretrain/test_corpus.py makes a small base",
    "make demo": "tests/kafka/test_demo.py runs a short one",
    "make test": "these are the tests",
    "python tests/bench/": MEASURE,
    ".venv/bin/python tests/bench/": MEASURE,
    "foldcast backtest trades.parquet": "the file is the reader's own",
    "python -m pip download": "tests make small files of the same form",
    "python -m zipfile": "tests make small files of the same form",
    "foldcast pretrain january.csv": "tests/worker/pretrain/test_pretrain.py trains on others",
    "foldcast dead-letters resend": "tests/kafka/test_dead_letters.py resends others",
    "foldcast replay --partition": "tests/kafka/test_replay.py replays others",
    "kafka-transactions.sh": "it is for a transaction that nobody ends, and tests leave none",
}


def begins(line: str, starts: dict[str, str]) -> list[str]:
    return [start for start in starts if line.startswith(start)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_by_a_test_or_has_a_reason_why_not(page: str) -> None:
    for line in commands(page):
        assert begins(line, RUN) or begins(line, NOT_RUN), f"run it in a test, or say why not: {line}"


def test_the_lists_name_nothing_that_is_gone() -> None:
    every = [line for page in PAGES for line in commands(page)]
    for start in [*RUN, *NOT_RUN]:
        assert any(line.startswith(start) for line in every), start
    for start, file in RUN.items():
        assert re.search(rf"""\(.*["']{re.escape(start)}""", (ROOT / file).read_text()), f"{file} runs {start}"


@pytest.mark.timeout(600)
def test_the_picture_can_be_drawn_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    found = programs(tmp_path / "bin")
    run(command("docs/forecasting.md", "python -c"), tmp_path, found)
    printed = run(command("docs/forecasting.md", "foldcast backtest jfk.csv"), tmp_path, found)
    assert "mean of all" in printed
    assert (tmp_path / "docs" / "backtest.svg").read_text().count("<svg") == 1
