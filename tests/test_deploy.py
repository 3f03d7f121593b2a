"""The deploy files against the code: variables, ports, times and commands that exist and agree."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from hadir.config import DESCRIPTOR_RESERVE, SERVE_REQUIRES, SETTINGS, Config, load
from hadir.http.app import HEALTH
from hadir.http.parties import WAIT_MAX_S
from hadir.http.server import GRACEFUL_S
from hadir.realtime.node import FLUSH_WAIT_S

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
OURS = {setting.name for setting in SETTINGS}
SAMPLES = {
    "DATABASE_URL": "postgresql://hadir:open-sesame@postgres:5432/hadir",
    "VALKEY_URL": "redis://valkey:6379",
    "AUTH_JWT_SECRET": "open-sesame, all thirty-two bytes",
    "XENDIT_CALLBACK_TOKEN": "open-sesame",
}
DEFAULTS = load(SAMPLES)
REQUIRED = {"serve": SERVE_REQUIRES, "migrate": ("DATABASE_URL",)}

OF_POSTGRES = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"}
"""What the image of Postgres documents."""
NO_VARIABLES = {
    "METH_GET",  # a condition of HAProxy
    "AF_INET",  # address families, in the unit
    "AF_INET6",
    "AF_UNIX",
    "PROJECT_ID",  # to be replaced, in cloudrun/
}

LONGEST_SOCKET = 1.1
UNANSWERED_ROTATION_S = 30
"""A socket is rotated at SOCKET_MAX_AGE_SECONDS ± 10 %, and closed so much later (design, section 4)."""
CLOUD_RUN_KILLS_S = 10
CLOUD_RUN_REQUEST_S = 3600
CLOUD_RUN_CONCURRENCY_MAX = 1000
CLOUD_RUN_STARTUP_MAX_S = 240


@dataclass(frozen=True)
class Process:
    """Something that a deploy file runs from our code, and all that its environment would hold there."""

    name: str
    command: tuple[str, ...]
    environ: dict[str, str]

    def config(self) -> Config:
        """Raises `ConfigError` where the process would not start."""
        return load(self.environ, required=REQUIRED[self.command[1]])


# reading the files


def document(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


COMPOSE = document("compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
RUN_FILES = {name: document(f"cloudrun/{name}.yaml") for name in ("public", "internal", "migrate")}
RUN_SERVICES = {name: RUN_FILES[name] for name in ("public", "internal")}
HAPROXY = (DEPLOY / "haproxy.cfg").read_text()
README = (DEPLOY / "README.md").read_text()


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, the rest of it), comments gone and continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M).replace("\\\n", "")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line]


def final_stage() -> dict[str, str]:
    """The last value of each instruction of the stage that is shipped."""
    lines = dockerfile()
    start = max(index for index, (instruction, _) in enumerate(lines) if instruction == "FROM")
    return dict(lines[start:])


def image_command() -> tuple[str, ...]:
    return tuple(json.loads(final_stage()["CMD"]))


def image_health_script() -> str:
    command = json.loads(final_stage()["HEALTHCHECK"].partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    return str(command[2])


def our_services() -> dict[str, Any]:
    return {name: service for name, service in SERVICES.items() if service["image"] == "hadir"}


def instances() -> dict[str, Any]:
    return {name: service for name, service in our_services().items() if "command" not in service}


def container(name: str) -> Any:
    template = RUN_FILES[name]["spec"]["template"]["spec"]
    (only,) = template["template"]["spec"]["containers"] if name == "migrate" else template["containers"]
    return only


def run_spec(name: str) -> Any:
    return RUN_FILES[name]["spec"]["template"]["spec"]


def run_annotations(name: str) -> Any:
    return RUN_FILES[name]["spec"]["template"]["metadata"]["annotations"]


def unit() -> list[tuple[str, str]]:
    lines = (DEPLOY / "hadir.service").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return [(key, value) for key, _, value in pairs]


def unit_value(key: str) -> str:
    (value,) = (value for each, value in unit() if each == key)
    return value


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|m|h)?", text)
    assert match, text
    return int(match[1]) * {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def haproxy(setting: str) -> str:
    """What stands behind a setting that is there once."""
    (value,) = re.findall(rf"^\s*{setting} (.+)$", HAPROXY, re.M)
    return str(value)


# what would run


def processes(secrets: Path) -> list[Process]:
    return [*compose_processes(secrets), *run_processes(), unit_process()]


def compose_processes(secrets: Path) -> Iterator[Process]:
    """A secret's file is put where the test can read it: that the container has it there is asserted on the way."""
    for name, service in our_services().items():
        environ = {}
        for variable, value in service["environment"].items():
            assert isinstance(value, str), f"{variable} of {name} is no text: quote it"
            environ[variable] = value
            if variable.endswith("_FILE"):
                secret = value.removeprefix("/run/secrets/")
                assert secret in service["secrets"], f"{name} is not given the secret {value}"
                (secrets / secret).write_text(SAMPLES[variable.removesuffix("_FILE")] + "\n")
                environ[variable] = str(secrets / secret)
        yield Process(f"compose {name}", tuple(service.get("command", image_command())), environ)


def run_processes() -> Iterator[Process]:
    for name in RUN_FILES:
        box = container(name)
        environ = {each["name"]: each.get("value") or SAMPLES[each["name"]] for each in box["env"]}
        assert len(environ) == len(box["env"]), f"cloudrun/{name}.yaml names a variable twice"
        assert "PORT" not in environ, "Cloud Run refuses to be told PORT"
        if "ports" in box:
            environ["PORT"] = str(box["ports"][0]["containerPort"])
        yield Process(f"cloudrun {name}", tuple(box.get("command", image_command())), environ)


def example_environ() -> dict[str, str]:
    lines = (DEPLOY / "hadir.env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def unit_process() -> Process:
    environ = example_environ()
    to_be_filled_in = {name: SAMPLES[name] for name, value in environ.items() if not value}
    program, *arguments = unit_value("ExecStart").split()
    return Process("unit", (Path(program).name, *arguments), environ | to_be_filled_in)


def named(found: Sequence[Process], name: str) -> Process:
    (process,) = (each for each in found if each.name == name)
    return process


# variables


def variables_named(text: str) -> set[str]:
    """Every word that looks like a variable: of the shape A_B, or one of our own short ones as it is set."""
    return set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text)) | set(re.findall(r"^\s*([A-Z]+)=", text, re.M))


def test_every_variable_that_a_deploy_file_names_is_one_that_somebody_reads() -> None:
    known = OURS | {f"{name}_FILE" for name in OURS} | OF_POSTGRES
    seen: set[str] = set()
    for path in (each for each in DEPLOY.rglob("*") if each.is_file() and "secrets" not in each.parts):
        found = variables_named(path.read_text())
        assert found <= known | NO_VARIABLES, f"{path.name}: {sorted(found - known - NO_VARIABLES)}"
        seen |= found
    assert seen >= OF_POSTGRES | NO_VARIABLES, "an exception that nothing needs any more"


def test_what_runs_our_code_is_given_our_variables_only(tmp_path: Path) -> None:
    for process in processes(tmp_path):
        for name in process.environ:
            assert name.removesuffix("_FILE") in OURS, f"{process.name}: {name}"
    assert set(SERVICES["postgres"]["environment"]) == OF_POSTGRES
    assert {name for name, service in SERVICES.items() if "environment" in service} == {*our_services(), "postgres"}


def test_what_a_deploy_file_says_is_a_configuration(tmp_path: Path) -> None:
    found = processes(tmp_path)
    assert [(each.name, each.command[1]) for each in found] == [
        ("compose hadir-1", "serve"),
        ("compose hadir-2", "serve"),
        ("compose migrate", "migrate"),
        ("cloudrun public", "serve"),
        ("cloudrun internal", "serve"),
        ("cloudrun migrate", "migrate"),
        ("unit", "serve"),
    ]
    for process in found:
        process.config()


def test_secrets_are_not_written_into_files_that_are_committed() -> None:
    secret = {setting.name for setting in SETTINGS if setting.secret}
    for name, service in our_services().items():
        # Compose's Valkey has no password, so that its address is none.
        assert not (secret - {"VALKEY_URL"}) & set(service["environment"]), name
    for name in RUN_FILES:
        assert not [each for each in container(name)["env"] if each["name"] in secret and "value" in each], name
    assert all(not value for name, value in example_environ().items() if name in secret)


def test_compose_declares_every_secret_and_the_recipe_makes_it() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])
    for name, secret in COMPOSE["secrets"].items():
        assert secret["file"] == f"./secrets/{name}"
        assert f"> secrets/{name}\n" in README
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().splitlines()
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert "postgres_password" in SERVICES["postgres"]["secrets"]


# commands


def commands() -> dict[str, Sequence[str]]:
    lines = (line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    procfile = {f"Procfile {name}": shlex.split(command) for name, command in lines}
    program, *arguments = unit_value("ExecStart").split()
    return procfile | {
        "Dockerfile": image_command(),
        "unit": [Path(program).name, *arguments],
        "compose migrate": SERVICES["migrate"]["command"],
        "cloudrun migrate": container("migrate")["command"],
    }


@pytest.mark.parametrize("where", commands())
def test_what_is_run_is_a_command_of_hadir(where: str) -> None:
    program, *arguments = commands()[where]
    assert program == "hadir"
    ended = subprocess.run([sys.executable, "-m", "hadir", *arguments, "--help"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"usage: hadir {' '.join(arguments)} ")


def test_what_the_texts_call_a_command_is_one() -> None:
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts]
    called = {command for text in texts for command in re.findall(r"(?:`|bin/)hadir ([a-z]+)", text)}
    help_text = subprocess.run([sys.executable, "-m", "hadir", "--help"], capture_output=True, text=True).stdout
    assert {"serve", "migrate"} <= called <= set(re.findall(r"^ {4}(\w+) ", help_text, re.M))


def test_the_unit_runs_what_the_readme_installs() -> None:
    assert unit_value("ExecStart").split()[0] in README
    assert f"-m venv {Path(unit_value('ExecStart').split()[0]).parent.parent}\n" in README
    assert unit_value("EnvironmentFile") in README


# ports


def test_the_image_exposes_the_public_port_and_asks_there_for_its_health() -> None:
    assert final_stage()["EXPOSE"] == str(DEFAULTS.port)
    assert f"os.environ.get('PORT') or {DEFAULTS.port})" in image_health_script()


def test_compose_and_its_proxy_agree_on_ports(tmp_path: Path) -> None:
    found = processes(tmp_path)
    expected = {(name, named(found, f"compose {name}").config().port) for name in instances()}
    servers = re.findall(r"^\s*server (\S+) ([^:\s]+):(\d+)", HAPROXY, re.M)
    assert {(host, int(port)) for _, host, port in servers} == expected
    assert len({name for name, _, _ in servers}) == len(servers) == len(instances()) >= 2
    bound = haproxy("bind").removeprefix(":")
    assert SERVICES["proxy"]["ports"] == [f"{DEFAULTS.port}:{bound}"]
    assert f"the public address is port {DEFAULTS.port}" in README
    assert f"http://127.0.0.1:{bound}/" in SERVICES["proxy"]["healthcheck"]["test"][-1]


def test_the_internal_listener_is_published_on_loopback_only(tmp_path: Path) -> None:
    found = processes(tmp_path)
    published = []
    for name in instances():
        config = named(found, f"compose {name}").config()
        (mapping,) = SERVICES[name]["ports"]
        host, outside, inside = mapping.split(":")
        assert (host, int(inside)) == ("127.0.0.1", config.internal_port)
        assert config.internal_host == "0.0.0.0", "else nothing listens where Docker forwards to"
        published.append(outside)
    assert len(set(published)) == len(published)
    assert f"on the host's loopback, ports {' and '.join(published)}:" in README
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"proxy", *instances()}
    assert all("network_mode" not in service and "expose" not in service for service in SERVICES.values())


def test_stores_are_where_the_addresses_say(tmp_path: Path) -> None:
    for name in instances():
        assert SERVICES[name]["environment"]["VALKEY_URL"] == "redis://valkey:6379"
    health = SERVICES["valkey"]["healthcheck"]["test"]
    assert health[health.index("-p") + 1] == "6379"
    address = re.search(r"postgresql://(\w+):\$\(cat secrets/postgres_password\)@(\w+):(\d+)/(\w+)", README)
    assert address
    user, host, port, database = address.groups()
    postgres = SERVICES[host]
    assert (user, database) == (postgres["environment"]["POSTGRES_USER"], postgres["environment"]["POSTGRES_DB"])
    assert {f"--port={port}", f"--username={user}", f"--dbname={database}"} <= set(postgres["healthcheck"]["test"])


def test_stores_are_reached_by_our_code_only() -> None:
    assert COMPOSE["networks"]["stores"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "stores" in service["networks"]} == {
        *our_services(),
        "postgres",
        "valkey",
    }
    assert SERVICES["postgres"]["networks"] == SERVICES["valkey"]["networks"] == ["stores"]


def test_cloud_run_asks_the_port_on_which_the_service_listens(tmp_path: Path) -> None:
    found = processes(tmp_path)
    public, internal = (named(found, f"cloudrun {name}").config() for name in ("public", "internal"))
    assert public.listeners == {"public"}
    assert internal.listeners == {"internal"}
    listens = {"public": (public.host, public.port), "internal": (internal.internal_host, internal.internal_port)}
    assert listens == {"public": ("0.0.0.0", DEFAULTS.port), "internal": ("0.0.0.0", DEFAULTS.internal_port)}
    for name in RUN_SERVICES:
        box = container(name)
        asked = [box["startupProbe"]["httpGet"]["port"], box["livenessProbe"]["httpGet"]["port"]]
        assert asked == [port["containerPort"] for port in box["ports"]] * 2 == [listens[name][1]] * 2


def test_the_units_ports_are_the_defaults_and_the_internal_one_is_on_loopback() -> None:
    config = unit_process().config()
    assert (config.host, config.port) == (DEFAULTS.host, DEFAULTS.port)
    assert (config.internal_host, config.internal_port) == ("127.0.0.1", DEFAULTS.internal_port)


# times


def test_whatever_stops_an_instance_waits_for_its_drain(tmp_path: Path) -> None:
    found = processes(tmp_path)
    rest_s = FLUSH_WAIT_S + GRACEFUL_S
    for name, service in instances().items():
        drain_s = named(found, f"compose {name}").config().drain_s
        assert seconds(service["stop_grace_period"]) > drain_s + rest_s
    assert float(unit_value("TimeoutStopSec")) > unit_process().config().drain_s + rest_s
    for name in RUN_SERVICES:
        assert named(found, f"cloudrun {name}").config().drain_s + FLUSH_WAIT_S < CLOUD_RUN_KILLS_S
    assert seconds(haproxy("hard-stop-after")) < seconds(SERVICES["proxy"]["stop_grace_period"])


def longest_socket_s(config: Config) -> float:
    return LONGEST_SOCKET * config.socket_max_age_s + UNANSWERED_ROTATION_S


def test_sockets_are_rotated_before_anything_in_front_cuts_them(tmp_path: Path) -> None:
    found = processes(tmp_path)
    for name in RUN_SERVICES:
        assert run_spec(name)["timeoutSeconds"] == CLOUD_RUN_REQUEST_S
        assert longest_socket_s(named(found, f"cloudrun {name}").config()) < CLOUD_RUN_REQUEST_S
    for name in instances():
        assert longest_socket_s(named(found, f"compose {name}").config()) < seconds(haproxy("timeout tunnel"))


def test_the_proxy_waits_for_the_longest_poll() -> None:
    assert min(seconds(haproxy("timeout client")), seconds(haproxy("timeout server"))) > WAIT_MAX_S


# health


class Answer(BaseHTTPRequestHandler):
    statuses: Mapping[str, int] = {}

    def do_GET(self) -> None:
        self.send_response(self.statuses.get(self.path, 404))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def answering(**statuses: int) -> Iterator[int]:
    """A server with these paths, on a port of its own."""
    handler = type("Handler", (Answer,), {"statuses": {f"/{name}": status for name, status in statuses.items()}})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


def exit_code(script: str, **environ: str) -> int:
    return subprocess.run([sys.executable, "-c", script], env=environ, stderr=subprocess.DEVNULL, timeout=20).returncode


def test_the_image_is_healthy_while_it_lives() -> None:
    with answering(health=200, ready=503) as port:
        assert exit_code(image_health_script(), PORT=str(port)) == 0
    with answering(health=500, ready=200) as port:
        assert exit_code(image_health_script(), PORT=str(port)) != 0
    assert exit_code(image_health_script(), PORT=str(port)) != 0


def test_a_service_of_compose_is_healthy_once_it_is_ready(tmp_path: Path) -> None:
    found = processes(tmp_path)
    for name, service in instances().items():
        *program, script = service["healthcheck"]["test"]
        assert program == ["CMD", "python", "-c"]
        asked = f"'127.0.0.1', {named(found, f'compose {name}').config().port},"
        assert asked in script
        with answering(health=200, ready=200) as port:
            assert exit_code(script.replace(asked, f"'127.0.0.1', {port},")) == 0
        with answering(health=200, ready=503) as port:
            assert exit_code(script.replace(asked, f"'127.0.0.1', {port},")) == 1


def test_who_decides_about_traffic_asks_ready_and_who_restarts_asks_health() -> None:
    ready, health = "/ready", "/health"
    assert {ready, health} <= {route.path for route in HEALTH}
    assert haproxy("option httpchk") == f"GET {ready}"
    assert haproxy("http-check expect") == "status 200"
    for name in RUN_SERVICES:
        box = container(name)
        assert box["startupProbe"]["httpGet"]["path"] == ready
        assert box["livenessProbe"]["httpGet"]["path"] == health
        startup = box["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] <= CLOUD_RUN_STARTUP_MAX_S
        for probe in (box["startupProbe"], box["livenessProbe"]):
            assert probe["timeoutSeconds"] <= probe["periodSeconds"]


def test_a_draining_instance_gets_no_new_socket_and_keeps_the_open_ones() -> None:
    settings = re.sub(r"#.*", "", HAPROXY)
    assert "on-marked-down" not in settings
    assert re.search(r"^\s*default-server check ", settings, re.M)
    assert "503" in haproxy("retry-on").split()
    assert haproxy("option redispatch") == "1"
    assert haproxy("http-request disable-l7-retry") == "unless METH_GET"
    assert haproxy("balance") == "leastconn"


def test_every_service_says_how_it_is() -> None:
    for name, service in SERVICES.items():
        assert service["healthcheck"].get("disable", False) == (name == "migrate"), name


def test_instances_wait_for_the_schema() -> None:
    for service in instances().values():
        assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    assert set(SERVICES["proxy"]["depends_on"]) == set(instances())


# capacity


def test_descriptors_suffice_for_the_connections_that_are_let_in() -> None:
    maxconn = int(haproxy("maxconn"))
    sockets = sum(service["ulimits"]["nofile"] - DESCRIPTOR_RESERVE for service in instances().values())
    assert sockets <= maxconn <= SERVICES["proxy"]["ulimits"]["nofile"] / 2
    assert int(unit_value("LimitNOFILE")) > 10 * DESCRIPTOR_RESERVE


def test_cloud_run_leaves_room_beside_the_sockets(tmp_path: Path) -> None:
    found = processes(tmp_path)
    for name in RUN_SERVICES:
        concurrency = run_spec(name)["containerConcurrency"]
        assert named(found, f"cloudrun {name}").config().max_connections <= 0.95 * concurrency
        assert concurrency <= CLOUD_RUN_CONCURRENCY_MAX


def test_cloud_run_lets_instances_work_between_requests_and_speaks_http_1() -> None:
    for name, fewest in (("public", 2), ("internal", 1)):
        annotations = run_annotations(name)
        assert annotations["run.googleapis.com/cpu-throttling"] == "false"
        most = int(annotations["autoscaling.knative.dev/maxScale"])
        assert fewest <= int(annotations["autoscaling.knative.dev/minScale"]) <= most
        assert [port["name"] for port in container(name)["ports"]] == ["http1"]


def test_the_two_services_of_cloud_run_differ_in_the_listener_only() -> None:
    public, internal = ({each["name"]: each for each in container(name)["env"]} for name in RUN_SERVICES)
    assert {name for name in public | internal if public.get(name) != internal.get(name)} == {"HADIR_LISTENERS"}
    ingress = "run.googleapis.com/ingress"
    assert [each["metadata"]["annotations"][ingress] for each in RUN_SERVICES.values()] == ["all", "internal"]
    assert "run.googleapis.com/invoker-iam-disabled" not in RUN_FILES["internal"]["metadata"]["annotations"]
    assert {container(name)["image"] for name in RUN_FILES} == {"IMAGE"}
    network = "run.googleapis.com/network-interfaces"
    assert len({run_annotations(name)[network] for name in RUN_FILES}) == 1
    for secret in (each["valueFrom"]["secretKeyRef"]["name"] for each in public.values() if "valueFrom" in each):
        assert f"`{secret}`" in README


# images


def test_images_are_named_without_a_registry() -> None:
    images = {service["image"] for service in SERVICES.values()}
    images |= {value.split()[0] for instruction, value in dockerfile() if instruction == "FROM"}
    for image in images:
        assert not re.search(r"[.:]", image.partition("/")[0] if "/" in image else ""), image


def test_valkey_has_the_settings_of_the_reference_and_evicts_nothing() -> None:
    valkey = SERVICES["valkey"]
    assert valkey["command"][:6] == ["valkey-server", "--appendonly", "yes", "--save", "60", "1000"]
    assert valkey["command"][6:] == ["--maxmemory-policy", "noeviction"]
    assert valkey["volumes"] == ["valkey-data:/data"]
    assert valkey["restart"] == "unless-stopped"
    declared = set(COMPOSE["volumes"])
    assert {
        service["volumes"][0].split(":")[0] for name, service in SERVICES.items() if name in ("valkey", "postgres")
    } == declared


def test_the_image_runs_as_nobody_in_particular_and_holds_no_build_tools() -> None:
    user, _, group = final_stage()["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert set(final_stage()) == {"FROM", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    stage, built, shipped = final_stage()["COPY"].split()
    assert (stage, built) == ("--from=builder", shipped)
    assert final_stage()["ENV"] == f"PATH={shipped}/bin:$PATH"
    assert any(f"venv --without-pip {built} " in value for instruction, value in dockerfile() if instruction == "RUN")
    assert "--require-hashes" in next(value for instruction, value in dockerfile() if instruction == "RUN")


def test_the_image_has_the_python_of_the_lock() -> None:
    bases = [value.split()[0] for instruction, value in dockerfile() if instruction == "FROM"]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert bases == [f"python:{oldest}-slim"] * 2


def test_what_the_image_copies_is_there_and_let_through_and_nothing_else_is() -> None:
    copied = {
        source
        for instruction, value in dockerfile()
        if instruction == "COPY" and not value.startswith("--from")
        for source in value.split()[:-1]
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
    assert any(fnmatch.fnmatch("hadir/http/__pycache__", rule) for rule in rules[1:])


def test_the_unit_is_not_root_and_gains_nothing() -> None:
    settings = dict(unit())
    assert settings["User"] not in ("", "root", "0")
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == "yes"
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    assert settings["RestartPreventExitStatus"] == "2", "the exit code of a wrong environment"


# what the tools themselves say, where they are


if shutil.which("haproxy"):

    def test_haproxy_takes_its_configuration() -> None:
        command = ["haproxy", "-c", "-f", str(DEPLOY / "haproxy.cfg")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr


if shutil.which("systemd-analyze"):

    def test_systemd_takes_the_unit(tmp_path: Path) -> None:
        copy = tmp_path / "hadir.service"
        program = unit_value("ExecStart").split()[0]
        copy.write_text((DEPLOY / "hadir.service").read_text().replace(program, str(shutil.which("env"))))
        command = ["systemd-analyze", "verify", str(copy)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stderr) == (0, "")
