"""docs/deployment.md says what is there: variables of docker-compose.yml with their defaults, commands, links."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from itertools import pairwise

from compose import BASE, CLUSTER, ROOT, read_compose

TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMPOSE = BASE.read_text(encoding="utf-8") + CLUSTER.read_text(encoding="utf-8")


def test_every_variable_of_the_compose_files_is_described_with_its_default() -> None:
    used = dict(re.findall(r"\$\{(\w+)(?::-([^}]*))?\}", BASE.read_text(encoding="utf-8")))
    described: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`.+?`) \| (.+?) \| .+ \|$", TEXT, re.MULTILINE):
        values = re.findall(r"`([^`]*)`", defaults)
        for at, name in enumerate(re.findall(r"`(\w+)`", names)):
            described[name] = values[at] if at < len(values) else ""

    assert described.pop("COMPOSE_PROFILES") == ""
    assert {name: value.replace("none", "") if "KEY" in name else value for name, value in used.items()} == described


def test_the_file_of_variables_has_variables_that_are_used() -> None:
    [names] = [re.findall(r"^(\w+)=", body, re.MULTILINE) for body in SHELL if "cat > .env" in body]

    assert {"QDRANT__SERVICE__API_KEY", "CLIP_QDRANT_SERVICE_KEY"} <= set(names)
    assert {name for name in names if name not in COMPOSE} == {"COMPOSE_PROFILES"}


def test_commands_of_compose_name_files_profiles_and_services_that_there_are() -> None:
    services = read_compose()["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    lines = re.findall(r"docker compose (?:-f \S+ )*(?:up|run) [^\n`]*", TEXT)

    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line)
        assert all((ROOT / file).is_file() for option, file in pairwise(words) if option == "-f")
    given = re.findall(r"COMPOSE_PROFILES=([\w,]+)", TEXT)
    assert {profile for group in given for profile in group.split(",")} == profiles


def test_who_is_to_change_owners_may_do_so_although_the_container_may_nothing_else() -> None:
    (command,) = re.findall(r"`docker compose run [^`]*chown[^`]*`", TEXT)

    assert read_compose()["services"]["qdrant"]["cap_drop"] == ["ALL"]
    assert "--cap-add CHOWN" in command


def test_the_shell_blocks_parse() -> None:
    bash = shutil.which("bash")
    assert len(SHELL) >= 5
    for body in SHELL if bash is not None else ():
        subprocess.run([str(bash), "-n"], input=body, text=True, check=True, capture_output=True)


def test_links_lead_to_files_and_headings() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        path = ROOT / "docs" / file
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target
