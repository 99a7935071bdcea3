"""Settings that are no mistake of spelling but an attack on the parser: each is one sentence too."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kernels.warming import warm
from worker.plan import Plan
from worker.settings.events import Events
from worker.settings.sentences import SettingsError
from worker.settings.settings import NAMES, SECTIONS, Settings
from worker.settings.sources import load

DIGITS = "1" * 5000
DEPTHS = (200, 900, 960, 980, 2000, 100_000)  # what the parsers take, what only Python's own words for it do not, more


def sentence(config: Path | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(config, environ or {})
    words = str(caught.value)
    assert words.isprintable(), words
    return words


def written(folder: Path, text: str) -> Path:
    path = folder / "hostile.toml"
    path.write_text(text, encoding="utf-8")
    return path


# ---- numbers and brackets without end


@pytest.mark.parametrize("name", ["MODEL__HORIZONS", "EVENTS__COVARIATES", "KAFKA__CLIENT_OPTIONS"])
def test_a_number_of_thousands_of_digits_in_a_variable_is_a_sentence(name: str) -> None:
    key = name.lower().replace("__", ".")
    words = sentence(None, {f"FOLDCAST_{name}": f'[{DIGITS}, {{"a": {DIGITS}}}]'})
    assert words.startswith(f"{key} (environment variable FOLDCAST_{name}) holds a number of too many digits: ")


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", ["MODEL__HORIZONS", "EVENTS__COVARIATES", "KAFKA__CLIENT_OPTIONS"])
def test_brackets_in_brackets_in_a_variable_are_a_sentence(name: str, depth: int) -> None:
    assert name.lower().replace("__", ".") in sentence(None, {f"FOLDCAST_{name}": "[" * depth + "]" * depth})


@pytest.mark.parametrize("name", ["worker.stall_exit_s", "http.port", "kafka.group_id", "model.horizons"])
@pytest.mark.parametrize("digits", [DIGITS, "0x" + "f" * 5000])
def test_a_number_of_thousands_of_digits_in_a_file_is_a_sentence(name: str, digits: str, tmp_path: Path) -> None:
    section, key = name.split(".")
    assert "hostile.toml" in sentence(written(tmp_path, f"[{section}]\n{key} = {digits}"))


@pytest.mark.parametrize("depth", DEPTHS)
def test_brackets_in_brackets_in_a_file_are_a_sentence(depth: int, tmp_path: Path) -> None:
    assert "hostile.toml" in sentence(written(tmp_path, f"[kafka]\ngroup_id = {'[' * depth}{']' * depth}"))


def test_tables_in_tables_in_a_file_are_a_sentence(tmp_path: Path) -> None:
    assert "model.horizons" in sentence(written(tmp_path, f"[model.horizons{'.a' * 3000}]\nb = 1"))


# ---- what would draw on a terminal, or forge a line of the log


@pytest.mark.parametrize(
    "text",
    [
        '["k\\n"]',
        '["k\\u001b[31m"]',
        '[kafka]\n"a\\nb" = 1',
        '[kafka]\n"a\\u202e" = 1',
        '[kafka]\ngroup_id = "a\nb"',
        '"k\\n" = 1',
        '[events]\ncovariates = ["a\\u2028", "a\\u2028"]',
    ],
)
def test_nothing_in_a_file_breaks_the_sentence_into_lines(text: str, tmp_path: Path) -> None:
    sentence(written(tmp_path, text))


def test_neither_does_a_name_of_a_variable_or_of_a_file(tmp_path: Path) -> None:
    sentence(None, {"FOLDCAST_\n\x1b[31m\udcff": "1"})
    sentence(tmp_path / "no\nsuch\udcff.toml")
    sentence(None, {"FOLDCAST_SECRETS_DIR": "no\nsuch"})


# ---- paths that the system cannot take


@pytest.mark.parametrize("name", ["a" * 5000, "/dev/null/x", "/"])
def test_a_path_that_cannot_be_is_a_sentence(name: str) -> None:
    sentence(None, {"FOLDCAST_CONFIG": name})
    if name != "/":
        sentence(None, {"FOLDCAST_SECRETS_DIR": name})


@pytest.mark.parametrize("name", ["model.checkpoint", "http.host", "kafka.ssl_cafile", "kafka.group_id"])
@pytest.mark.parametrize("character", ["\\u0000", "\\n", "\\u001b"])
def test_a_name_with_a_control_character_is_a_sentence(name: str, character: str, tmp_path: Path) -> None:
    section, key = name.split(".")
    words = sentence(written(tmp_path, f'[{section}]\n{key} = "a{character}b"'))
    assert words.startswith(f"{name} (in ")
    assert words.endswith(": leave out control characters")


# ---- names of fields


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\0b", "\x1f"])
@pytest.mark.parametrize("key", ["stream_field", "time_field", "target_field", "covariates"])
def test_a_field_whose_name_the_decoder_cannot_have_is_a_sentence(name: str, key: str) -> None:
    text = json.dumps([name]) if key == "covariates" else name
    words = sentence(None, {f"FOLDCAST_EVENTS__{key.upper()}": text})
    assert words.startswith(f"events.{key} (environment variable FOLDCAST_EVENTS__{key.upper()}) ")
    assert ": leave out " in words


@pytest.mark.parametrize("name", ["a'b", "%s", "{0}", "ü\u2028\U0001f600", " ", "c0", "a.b[0]"])
def test_any_other_name_of_a_field_is_warmed_and_decoded(name: str) -> None:
    path, time_s = name.replace(".", r"\."), 1_600_000_000  # a dot would go into an object
    plan = Plan.of(Settings(events=Events(time_field=path, covariates=(f"{path}!",))))
    warm(plan)
    body = json.dumps({"stream": "s", name: time_s, "value": 1, f"{name}!": 2}).encode()
    batch, rejected = plan.decoder.decode([0], [1000 * time_s], [None], [body])
    assert (batch.time_ms.tolist(), batch.covariates.tolist(), rejected) == ([1000 * time_s], [[2.0]], [])


# ---- anything

VALUES = st.one_of(
    st.sampled_from(["0x" + "f" * 9000, DIGITS, "1e999", "nan", "-inf", "1979-05-27", "07:32:00", "2024-13-01"]),
    st.integers(0, 3000).map(lambda n: "[" * n + "]" * n),
    st.integers(0, 600).map(lambda n: "{a=" * n + "1" + "}" * n),
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8),
)
HEADS = st.one_of(st.sampled_from([*SECTIONS, "kafka.client_options", "model.horizons"]), st.text(max_size=5))


@given(st.lists(st.tuples(HEADS, st.sampled_from([n.split(".")[1] for n in NAMES]), VALUES), min_size=1, max_size=3))
def test_no_file_does_more_than_raise_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    text = "\n".join(f"[{head}]\n{key} = {value}" for head, key, value in lines)
    path.write_text(text, encoding="utf-8", errors="replace")
    words = ""
    try:
        load(path, {})
    except SettingsError as error:
        words = str(error)
    assert words.isprintable()
    assert len(words) < 2000
