"""Settings: which source wins, and for every kind of mistake the sentence that says which, why and what to do."""

import json
import socket
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.settings.events import Events
from worker.settings.http import Http
from worker.settings.kafka import Kafka
from worker.settings.model import Model
from worker.settings.reference import reference
from worker.settings.sentences import SettingsError
from worker.settings.settings import NAMES, Settings
from worker.settings.sources import load

ROOT = Path(__file__).parents[3]
SECRET = "hunter2"
# kafka-python 3.0.12 reads its message formats in a way that Python 3.11 calls deprecated
loads_kafka = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

Toml = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> Toml:
    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def complaint(config: Path | None = None, environ: dict[str, str] | None = None, **given: Mapping[str, object]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(config, environ or {}, **given)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# ---- sources


def test_without_any_source_the_defaults_hold() -> None:
    assert load(None, {}) == Settings()


def test_a_file_wins_over_the_default(toml: Toml) -> None:
    assert load(toml("[http]\nport = 1"), {}).http == Http(port=1)


def test_a_secret_file_wins_over_the_toml_file(toml: Toml, secrets: Path) -> None:
    (secrets / "foldcast_http__port").write_text("2\n")
    assert load(toml("[http]\nport = 1"), {"FOLDCAST_SECRETS_DIR": str(secrets)}).http.port == 2


def test_the_environment_wins_over_a_secret_file(toml: Toml, secrets: Path) -> None:
    (secrets / "foldcast_http__port").write_text("2")
    environ = {"FOLDCAST_SECRETS_DIR": str(secrets), "FOLDCAST_HTTP__PORT": "3"}
    assert load(toml("[http]\nport = 1"), environ).http.port == 3


def test_the_caller_wins_over_the_environment() -> None:
    settings = load(None, {"FOLDCAST_HTTP__PORT": "3", "FOLDCAST_HTTP__HOST": "h"}, http={"port": 4})
    assert settings.http == Http(host="h", port=4)


def test_a_source_that_sets_one_name_leaves_the_others_of_its_section(toml: Toml) -> None:
    settings = load(toml('[http]\nhost = "h"\nport = 1'), {"FOLDCAST_HTTP__PORT": "3"})
    assert settings.http == Http(host="h", port=3)


def test_the_environment_names_the_file_unless_the_caller_does(toml: Toml, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[http]\nport = 9")
    environ = {"FOLDCAST_CONFIG": str(other)}
    assert load(None, environ).http.port == 9
    assert load(toml("[http]\nport = 1"), environ).http.port == 1


def test_an_empty_variable_is_one_that_is_not_set(toml: Toml) -> None:
    assert load(toml("[http]\nport = 1"), {"FOLDCAST_HTTP__PORT": "", "FOLDCAST_CONFIG": ""}).http.port == 1


def test_lists_and_tables_come_as_json_from_the_environment() -> None:
    environ = {"FOLDCAST_MODEL__HORIZONS": "[2, 5]", "FOLDCAST_EVENTS__COVARIATES": '["humid"]'}
    settings = load(None, environ)
    assert (settings.model.horizons, settings.events.covariates) == ((2, 5), ("humid",))


@loads_kafka
def test_client_options_are_put_together_from_all_sources(toml: Toml) -> None:
    config = toml('[kafka.client_options]\nssl_ciphers = "x"\nsend_buffer_bytes = 1')
    settings = load(config, {"FOLDCAST_KAFKA__CLIENT_OPTIONS": '{"send_buffer_bytes": 2}'})
    assert settings.kafka.client_options == {"ssl_ciphers": "x", "send_buffer_bytes": 2}


def test_the_constructor_does_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP", '{"port": 1}')
    monkeypatch.setenv("FOLDCAST_HTTP__PORT", "1")
    assert Settings().http.port == 8080


def test_the_variables_that_kubernetes_sets_beside_a_service_are_not_ours() -> None:
    load(
        None,
        {
            "FOLDCAST_SERVICE_HOST": "10.0.0.1",
            "FOLDCAST_SERVICE_PORT": "80",
            "FOLDCAST_SERVICE_PORT_HTTP": "80",
            "FOLDCAST_PORT": "tcp://10.0.0.1:80",
            "FOLDCAST_WEB_PORT_80_TCP_ADDR": "10.0.0.1",
            "OTHER_PROGRAM": "x",
        },
    )


def test_foreign_files_and_folders_among_the_secrets_are_left_alone(secrets: Path) -> None:
    (secrets / "database_password").write_text("x")
    (secrets / "foldcast_folder").mkdir()
    assert load(None, {"FOLDCAST_SECRETS_DIR": str(secrets)}) == Settings()


@given(st.data())
def test_what_was_loaded_loads_again_from_variables(data: st.DataObject) -> None:
    horizons = data.draw(st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(sorted))
    half = data.draw(st.lists(st.integers(1, 499), max_size=3, unique=True).map(sorted))
    quantiles = [n / 1000 for n in half] + [0.5] + [1 - n / 1000 for n in reversed(half)]
    topic = data.draw(st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True))
    port = data.draw(st.integers(0, 65535))
    written = load(
        None,
        {
            "FOLDCAST_MODEL__HORIZONS": json.dumps(horizons),
            "FOLDCAST_MODEL__QUANTILES": json.dumps(quantiles),
            "FOLDCAST_KAFKA__GROUP_ID": "g",
            "FOLDCAST_KAFKA__INPUT_TOPIC": f"in-{topic}",
            "FOLDCAST_HTTP__PORT": str(port),
        },
    )
    assert written == Settings(
        model=Model(horizons=tuple(horizons), quantiles=tuple(quantiles)),
        kafka=Kafka(group_id="g", input_topic=f"in-{topic}"),
        http=Http(port=port),
    )


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20), max_size=4))
def test_no_text_in_a_variable_does_more_than_raise_a_sentence(values: dict[str, str]) -> None:
    # a client option would load the Kafka client
    names = {f"FOLDCAST_{n.upper().replace('.', '__')}": v for n, v in values.items() if n != "kafka.client_options"}
    sentence = ""
    try:
        load(None, names)
    except SettingsError as error:
        sentence = str(error)
    assert sentence == "" or "(environment variable FOLDCAST_" in sentence or "(the default)" in sentence


# ---- defaults and derived values


def test_topics_follow_the_group_unless_they_are_named() -> None:
    kafka = Kafka(group_id="g", changelog_topic="c")
    assert (kafka.dead_letter_topic, kafka.changelog_topic) == ("g-dead-letters", "c")


def test_a_worker_is_named_after_its_host() -> None:
    assert Kafka().instance_id == socket.gethostname()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().http.port = 1


# ---- unknown names


def test_a_misspelt_name_is_answered_with_the_nearest(toml: Toml) -> None:
    config = toml('[kafka]\ngruop_id = "x"')
    assert complaint(config) == f"kafka.gruop_id (in {config}) is no setting: did you mean kafka.group_id?"


def test_a_name_in_the_wrong_section_is_answered_with_the_right_one(toml: Toml) -> None:
    assert complaint(toml("[kafka]\nhorizons = [1]")).endswith("is no setting: did you mean model.horizons?")


def test_a_name_like_no_other_is_answered_with_the_list(toml: Toml) -> None:
    config = toml('[model]\nplumage = "red"')
    assert complaint(config) == (
        f"model.plumage (in {config}) is no setting: leave it out; docs/settings.md lists all there are"
    )


def test_a_misspelt_section_is_answered_with_the_nearest(toml: Toml) -> None:
    config = toml("[htpp]\nport = 1")
    assert complaint(config) == f"[htpp] (in {config}) is no section: did you mean [http]?"


def test_an_unknown_variable_is_answered_with_the_nearest() -> None:
    assert complaint(None, {"FOLDCAST_HTTP_PORT": "1"}) == (
        "environment variable FOLDCAST_HTTP_PORT is no setting: did you mean FOLDCAST_HTTP__PORT?"
    )


def test_an_unknown_secret_file_is_named(secrets: Path) -> None:
    (secrets / "foldcast_kafka__sasl_pasword").write_text(SECRET)
    sentence = complaint(None, {"FOLDCAST_SECRETS_DIR": str(secrets)})
    assert sentence == (
        f"secret file {secrets / 'foldcast_kafka__sasl_pasword'} is no setting: "
        "did you mean FOLDCAST_KAFKA__SASL_PASSWORD?"
    )


@given(st.sampled_from(NAMES), st.integers(0, 30))
def test_one_letter_too_few_still_finds_the_name(name: str, place: int) -> None:
    section, key = name.split(".")
    place %= len(key)
    short = key[:place] + key[place + 1 :]
    assume(f"{section}.{short}" not in NAMES)
    assert complaint(None, {}, **{section: {short: 1}}) == (
        f"{section}.{short} (given by the caller) is no setting: did you mean {name}?"
    )


# ---- wrong values

WRONG = [
    ("[http]\nport = 70000", "http.port", "is 70000: it should be less than or equal to 65535"),
    ('[http]\nport = "x"', "http.port", "is 'x': it should be a valid integer"),
    ("[http]\nport = true", "http.port", "is True: give a number or a word, not true or false"),
    ("[http]\nhost = 3", "http.host", "is 3: it should be a valid string"),
    ('[kafka]\ngroup_id = ""', "kafka.group_id", "is '': it should have at least 1 character"),
    ('[kafka]\nstart = "now"', "kafka.start", "is 'now': it should be 'earliest' or 'latest'"),
    (
        '[kafka]\nbootstrap_servers = "a"',
        "kafka.bootstrap_servers",
        "is 'a': write host:port, or host:port,host:port",
    ),
    (
        '[kafka]\ninput_topic = "a b"',
        "kafka.input_topic",
        "is 'a b': use at most 249 letters, digits, dots, dashes and underscores",
    ),
    ("[events]\nmax_ahead_s = -1", "events.max_ahead_s", "is -1: it should be greater than or equal to 0"),
    ("[events]\nmax_dead_ratio = 1.5", "events.max_dead_ratio", "is 1.5: it should be less than or equal to 1"),
    ('[events]\ncovariates = "a"', "events.covariates", "is 'a': it should be a list"),
    ("[model]\nhorizons = []", "model.horizons", "is []: name at least one"),
    ("[model]\nhorizons = [3, 3]", "model.horizons", "is [3, 3]: write them in increasing order, each once"),
    ("[model]\nhorizons = [0]", "model.horizons", "holds 0: it should be greater than or equal to 1"),
    ("[model]\nhorizons = [1001]", "model.horizons", "holds 1001: it should be less than or equal to 1000"),
    ("[model]\nhorizons = {a = 1}", "model.horizons", "is {'a': 1}: it should be a list"),
    ("[model]\nquantiles = [0.1, 0.9]", "model.quantiles", "is [0.1, 0.9]: put 0.5 among them, the median"),
    (
        "[model]\nquantiles = [0.1, 0.5]",
        "model.quantiles",
        "is [0.1, 0.5]: give each level below 0.5 its partner above, such as 0.9 to 0.1",
    ),
    ("[model]\nquantiles = [0, 0.5, 1]", "model.quantiles", "holds 0: it should be greater than 0"),
    ("[worker]\ngive_up_s = inf", "worker.give_up_s", "is inf: it should be a finite number"),
]


@pytest.mark.parametrize(("text", "name", "rest"), WRONG, ids=[f"{name} {rest}" for _, name, rest in WRONG])
def test_a_wrong_value_is_told_with_its_name_place_reason_and_fix(toml: Toml, text: str, name: str, rest: str) -> None:
    config = toml(text)
    assert complaint(config) == f"{name} (in {config}) {rest}"


def test_a_wrong_value_is_told_with_the_variable_it_came_from(toml: Toml) -> None:
    assert complaint(toml("[http]\nport = 1"), {"FOLDCAST_HTTP__PORT": "x"}) == (
        "http.port (environment variable FOLDCAST_HTTP__PORT) is 'x': it should be a valid integer"
    )


@pytest.mark.parametrize(
    ("name", "example"),
    [("MODEL__HORIZONS", '["a", "b"] or [1, 2]'), ("KAFKA__CLIENT_OPTIONS", '{"name": 1}')],
)
def test_a_list_in_a_variable_that_is_no_json_is_told_with_an_example(name: str, example: str) -> None:
    key = name.lower().replace("__", ".")
    assert complaint(None, {f"FOLDCAST_{name}": SECRET}) == (
        f"{key} (environment variable FOLDCAST_{name}) is no JSON: write it like {example}"
    )


def test_a_topic_that_a_group_id_cannot_name_is_told_as_the_default() -> None:
    assert complaint(None, {"FOLDCAST_KAFKA__GROUP_ID": "a b"}).startswith(
        "kafka.dead_letter_topic (the default) is 'a b-dead-letters': use at most 249 letters"
    )


def test_a_long_value_is_cut(toml: Toml) -> None:
    assert len(complaint(toml(f'[kafka]\ninput_topic = "{"x" * 5000}"'))) < 400


@loads_kafka
def test_a_client_option_that_the_worker_owns_is_refused(toml: Toml) -> None:
    config = toml("[kafka.client_options]\nacks = 1")
    assert complaint(config) == (
        f"kafka.client_options (in {config}) cannot be used: the worker sets these Kafka client options itself: acks"
    )


# ---- contradictions


def test_covariates_that_the_lite_profile_would_not_read_are_refused(toml: Toml) -> None:
    config = toml('[model]\nprofile = "lite"\n[events]\ncovariates = ["humid"]')
    assert complaint(config) == (
        f"events.covariates (in {config}) are read by the linear experts alone, and model.profile is lite, which has "
        "none: make it full, or leave them out"
    )


def test_a_weekly_table_that_the_lite_profile_would_not_read_is_refused_where_it_was_asked_for(toml: Toml) -> None:
    config = toml('[model]\nprofile = "lite"\nweekly = "on"')
    assert complaint(config).startswith(f"model.weekly (in {config}) is read by the linear experts' stacking, and")
    assert load(toml('[model]\nprofile = "lite"'), {}).model.profile == "lite", "the default asks for nothing"


def test_two_topics_of_one_name_are_refused(toml: Toml) -> None:
    config = toml('[kafka]\noutput_topic = "events"')
    assert complaint(config) == (
        f"kafka.input_topic and kafka.output_topic (in {config}) are both 'events': give each its own"
    )


def test_credentials_without_a_protocol_that_uses_them_are_refused() -> None:
    assert complaint(None, {"FOLDCAST_KAFKA__SASL_PASSWORD": SECRET}) == (
        "kafka.sasl_password (environment variable FOLDCAST_KAFKA__SASL_PASSWORD) does nothing while "
        "kafka.security_protocol is PLAINTEXT: make that SASL_SSL or SASL_PLAINTEXT, or leave it out"
    )


CONTRADICTIONS: list[tuple[str, dict[str, object], str]] = [
    ("kafka", {"ssl_cafile": "ca.pem"}, "make that SSL or SASL_SSL, or leave it out"),
    ("kafka", {"security_protocol": "SASL_SSL"}, "is SASL_SSL, which logs in: set kafka.sasl_mechanism"),
    (
        "kafka",
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"},
        "is PLAIN, which needs kafka.sasl_password: set it",
    ),
    ("kafka", {"security_protocol": "SSL", "ssl_keyfile": "k"}, "belongs to a certificate: set kafka.ssl_certfile"),
    ("events", {"time_field": "stream"}, "are both 'stream': give each its own"),
    ("events", {"covariates": ["a", "a"]}, "names 'a' twice: leave one out"),
    ("events", {"target_field": "time.a"}, "'time' and 'time.a' are one field, or one is inside the other"),
    ("events", {"target_field": "0.value"}, "'stream' and '0.value' differ over what is a list"),
    ("events", {"target_field": "data..x"}, "'data..x' has a dot with no name beside it"),
    ("events", {"target_field": r"a\b"}, "backslashes but those before a dot or a digit"),
    ("events", {"target_field": "x", "target_fields": ["y"]}, "are both given: leave one of them out"),
    ("events", {"target_fields": ["a.b", "a.b"]}, "'a.b' and 'a.b' are one field"),
    ("events", {"target_fields": ["a.b", "x.b", r"a\.b"]}, "two fields that end as 'a.b'"),
    ("events", {"target_fields": ["a/b", "c"]}, "`/` stands between a stream's name and its field's"),
    ("events", {"target_field": ".", "time_field": "t"}, "is '.', a message without fields: the record's key"),
    ("events", {"range": [1]}, "is [1.0]: write the least value and a greater one"),
    ("events", {"range": [2, 1]}, "is [2.0, 1.0]: write the least"),
    ("events", {"missing_values": ["unknown"]}, "make it lenient, or leave the text out"),
    ("events", {"covariates": ["value"]}, "names 'value', which is events.target_field: leave it out"),
    ("output", {"rows_topic": "events"}, "and kafka.input_topic are both 'events': give each its own"),
    ("output", {"rows_topic": "foldcast-changelog"}, "and kafka.changelog_topic are both 'foldcast-changelog'"),
    ("model", {"horizons": list(range(901, 1001))}, "ask for fewer long horizons or fewer quantiles"),
    ("worker", {"give_up_s": 5}, "is 5, not more than one commit may take (worker.commit_timeout_s is 8)"),
    ("worker", {"stall_exit_s": 8}, "is 8, not more than one commit may take (worker.commit_timeout_s is 8)"),
]


@pytest.mark.parametrize(("section", "table", "words"), CONTRADICTIONS, ids=[w for _, _, w in CONTRADICTIONS])
def test_settings_that_contradict_each_other_are_refused(section: str, table: dict[str, object], words: str) -> None:
    sentence = complaint(None, {}, **{section: table})
    assert words in sentence
    assert f"{section}." in sentence
    assert "(given by the caller)" in sentence


@pytest.mark.parametrize("mechanism", ["GSSAPI", "AWS_MSK_IAM"])
def test_a_mechanism_without_passwords_needs_none(mechanism: Any) -> None:
    assert Kafka(security_protocol="SASL_SSL", sasl_mechanism=mechanism).sasl_password is None


# ---- files


def test_a_file_that_is_not_there_is_told() -> None:
    assert (
        complaint(Path("no.toml")) == "there is no settings file no.toml: name another with --config or FOLDCAST_CONFIG"
    )


def test_a_file_that_is_not_toml_is_told_with_the_place(toml: Toml) -> None:
    config = toml("[http]\nport = \n")
    assert complaint(config) == f"{config} is not TOML: invalid value (at line 2, column 8); correct it there"


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_bytes(b"\xff")
    assert complaint(config) == f"{config} is not UTF-8 text: save it as such"


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    assert complaint(tmp_path).startswith(f"{tmp_path} cannot be read (")


def test_a_section_that_is_a_value_is_told(toml: Toml) -> None:
    config = toml("http = 8080")
    assert complaint(config) == f"http (in {config}) is a section: write [http] and its settings below"


def test_a_secrets_directory_that_is_not_there_is_told() -> None:
    assert complaint(None, {"FOLDCAST_SECRETS_DIR": "nowhere"}) == (
        "FOLDCAST_SECRETS_DIR is 'nowhere', which is no directory: name the one with the secret files"
    )


# ---- secrets


def test_a_password_is_read_from_a_file_without_its_line_end_and_never_shown(secrets: Path) -> None:
    (secrets / "FOLDCAST_KAFKA__SASL_PASSWORD").write_text(f" {SECRET}\r\n")
    environ = {
        "FOLDCAST_SECRETS_DIR": str(secrets),
        "FOLDCAST_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "FOLDCAST_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "FOLDCAST_KAFKA__SASL_USERNAME": "u",
    }
    settings = load(None, environ)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == f" {SECRET}"
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert SECRET not in shown


@loads_kafka
@pytest.mark.parametrize(
    "kafka",
    [
        {"sasl_password": SECRET},
        {"sasl_password": [SECRET]},
        {"ssl_password": SECRET, "security_protocol": "SSL"},
        {"sasl_pasword": SECRET},
        {"client_options": SECRET},
        {"client_options": {"acks": SECRET}},
        {"client_options": [SECRET]},
    ],
)
def test_no_error_shows_a_secret(kafka: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {}, kafka=kafka)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__
    with pytest.raises(ValidationError) as direct:
        Settings.model_validate({"kafka": kafka})
    assert SECRET not in str(direct.value)


@loads_kafka
def test_client_options_may_hold_secrets_and_are_not_shown() -> None:
    assert SECRET not in repr(Settings(kafka=Kafka(client_options={"ssl_ciphers": SECRET})))


# ---- meaning


def test_the_meaning_is_plain_json() -> None:
    meaning = Settings().meaning()
    assert json.loads(json.dumps(meaning)) == meaning
    assert meaning["model.horizons"] == [1, 3, 6, 12, 24]


CHANGES: list[tuple[dict[str, dict[str, object]], set[str]]] = [
    ({"model": {"cell": "lstm", "seed": 1, "checkpoint": "x"}}, {"model.cell"}),
    (
        {"model": {"hidden_size": 8, "layers": 2, "horizons": [1]}},
        {"model.hidden_size", "model.layers", "model.horizons"},
    ),
    ({"events": {"transform": "log", "same_time": "accept"}}, {"events.transform", "events.same_time"}),
    ({"events": {"max_gap": 5, "max_ahead_s": 5, "max_dead_ratio": 0.1}}, {"events.max_gap", "events.max_ahead_s"}),
    ({"worker": {"stream_ttl_s": 5, "min_cycle_ms": 5, "on_gap": "skip"}}, {"worker.stream_ttl_s"}),
    ({"kafka": {"group_id": "x"}, "http": {"port": 1}, "log": {"level": "debug"}}, set()),
]


@pytest.mark.parametrize(("tables", "changed"), CHANGES)
def test_only_what_gives_the_state_its_meaning_is_part_of_it(
    tables: dict[str, dict[str, object]], changed: set[str]
) -> None:
    before, after = Settings().meaning(), load(None, {}, **tables).meaning()
    assert {name for name in before if before[name] != after[name]} == changed


# ---- documentation


def test_the_settings_page_is_the_reference() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == reference()


def test_every_setting_is_described_once() -> None:
    text = reference()
    for name in NAMES:
        assert f"| `{name.split('.')[1]}` | " in text
    assert all(len(row.split(" | ")) == 3 for row in text.splitlines() if row.startswith("| `"))


# ---- the files that come with the project


@pytest.mark.parametrize("name", ["local", "sensors", "prices"])
def test_the_configs_are_valid(name: str) -> None:
    load(ROOT / "configs" / f"{name}.toml", {})


def test_the_local_config_runs_against_the_same_topics_as_the_defaults() -> None:
    kafka = tomllib.loads((ROOT / "configs" / "local.toml").read_text())["kafka"]
    assert Kafka(**kafka) == Kafka()


def test_the_prices_config_forecasts_logarithms_and_takes_trades_of_one_time() -> None:
    events = load(ROOT / "configs" / "prices.toml", {}).events
    assert (events.transform, events.same_time) == ("log", "accept")


def test_the_defaults_of_events_are_those_of_the_pipeline() -> None:
    from pipeline.events import Format
    from pipeline.method import Method

    events, model, form, method = Events(), Model(), Format(), Method()
    assert (events.stream_field, events.time_field, events.target_field) == (
        form.stream_field, form.time_field, form.target_field
    )  # fmt: skip
    assert events.max_ahead_s * 1000 == form.max_ahead_ms
    for name in (
        "horizons", "quantiles", "cell", "hidden_size", "layers", "profile", "season", "season_slots", "weekly",
    ):  # fmt: skip
        assert getattr(model, name) == getattr(method, name)
    for name in ("covariates", "transform", "same_time", "max_gap"):
        assert getattr(events, name) == getattr(method, name)
