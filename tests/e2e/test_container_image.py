"""What is in the image, and under which conditions it runs."""

from pathlib import Path

import docker

from tests.rigs.stage import READ_ONLY, Case


def run(engine: docker.DockerClient, image: str, command: list[str], **options: object) -> str:
    """A command in a container of its own; fails where it does."""
    return str(engine.containers.run(image, command, remove=True, network_mode="none", **options).decode())


def test_it_is_small_labelled_and_nobody_is_root(engine: docker.DockerClient, image: str) -> None:
    attributes = engine.images.get(image).attrs
    config = attributes["Config"]
    print(f"{attributes['Size'] / 1e6:.0f} MB")
    assert attributes["Size"] <= 1.0e9
    assert config["User"] == "1000:0"
    assert config["Labels"]["org.opencontainers.image.title"] == "foldcast"
    assert {"source", "url", "created"} <= {name.rpartition(".")[2] for name in config["Labels"]}
    assert (config["Entrypoint"], config["Cmd"]) == (["python", "-m", "worker"], ["run"])
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "worker.http.container_probe"]


def test_it_has_no_compiler_and_no_cache_of_pip(engine: docker.DockerClient, image: str) -> None:
    find = "command -v gcc cc g++ clang; find / -xdev -path '*/.cache/pip' -o -xdev -path '/opt/venv/bin/pip*'"
    assert run(engine, image, ["-c", f"{find}; true"], entrypoint="sh", user="0:0") == ""


def test_nothing_that_it_runs_can_be_written_by_who_runs_it(engine: docker.DockerClient, image: str) -> None:
    """A writable file system, so that it is up to owners and modes alone; kernels are code too."""
    find = "find /opt -writable; test -f /opt/foldcast/worker/loop.py && test -n \"$(find /opt/kernels -name '*.nbi')\""
    for user in ("1000:0", "54321:0", "54321:12345"):
        assert run(engine, image, ["-c", find], entrypoint="sh", user=user) == "", user


def test_the_kernels_are_there_whoever_runs_it_wherever_nothing_can_be_written(
    engine: docker.DockerClient, image: str
) -> None:
    for options in ({"read_only": True}, READ_ONLY):
        said = run(engine, image, ["warm", "--check"], user="54321:12345", cap_drop=["ALL"], **options)
        assert said.startswith("kernels compiled 0, found compiled "), said


def test_kernels_for_other_settings_are_compiled_where_something_can_be_written(
    engine: docker.DockerClient, image: str
) -> None:
    said = run(engine, image, ["warm", "--config", "configs/prices.toml"], user="54321:12345", **READ_ONLY)
    assert said.startswith("kernels compiled ")
    assert not said.startswith("kernels compiled 0,")


def test_a_random_user_without_capabilities_on_a_read_only_file_system_forecasts(case: Case) -> None:
    case.send(case.events(500))
    options = {"user": "54321:12345", "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
    worker = case.worker(**options, mem_limit="1500m", environment={**case.environment, "NUMBA_DEBUG_CACHE": "1"})
    case.audit()
    worker.container.stop(timeout=120)
    assert worker.state["ExitCode"] == 0
    assert "data loaded" in worker.log
    assert "data saved" not in worker.log, "a kernel was compiled"


def test_settings_from_a_mounted_file(case: Case, tmp_path: Path) -> None:
    kafka = {name.split("__")[1].lower(): value for name, value in case.environment.items() if "KAFKA" in name}
    lines = [f'{n} = "{v}"' if n != "session_timeout_s" else f"{n} = {v}" for n, v in kafka.items()]
    config = tmp_path / "my.toml"
    events = f'earliest = "{case.environment["FOLDCAST_EVENTS__EARLIEST"]}"'
    rest = ["[events]", events, "[http]", "port = 8080", "[log]", 'format = "json"', ""]
    config.write_text("\n".join(["[kafka]", *lines, *rest]))
    config.chmod(0o644)
    tmp_path.chmod(0o755)
    worker = case.worker(
        environment={"FOLDCAST_CONFIG": "/etc/foldcast/my.toml"}, mounts=[(config, "/etc/foldcast/my.toml")]
    )
    case.send(case.events(500))
    case.audit()
    assert '"message": "listening"' in worker.log


def test_settings_from_secret_files(case: Case, tmp_path: Path) -> None:
    environment = dict(case.environment)
    secret = tmp_path / "foldcast_kafka__group_id"
    secret.write_text(environment.pop("FOLDCAST_KAFKA__GROUP_ID") + "\n")
    secret.chmod(0o644)
    tmp_path.chmod(0o755)
    case.worker(environment=environment, mounts=[(tmp_path, "/run/secrets")])
    case.send(case.events(500))
    case.audit()
    assert sum(case.committed().values()) > 500


def test_a_wrong_setting_ends_it_with_one_sentence(engine: docker.DockerClient, image: str) -> None:
    made = engine.containers.run(image, detach=True, environment={"FOLDCAST_KAFKA__BOOTSTRAP": "x"})
    try:
        assert made.wait(timeout=180)["StatusCode"] == 2
        assert made.logs().decode().startswith("foldcast: environment variable FOLDCAST_KAFKA__BOOTSTRAP is no setting")
    finally:
        made.remove(force=True)
