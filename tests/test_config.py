"""`config check` and `config show`: settings, where they come from, and no secret."""

import json
from pathlib import Path

import pytest

from tests.commands import BRIDGE, CONSUMERS, ran


async def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("nonsense = 1\n")
    command = await ran(
        *(BRIDGE, "config", "check"),
        folder=tmp_path,
        BRIDGE_WINDOW="0",
        BRIDGE_PROT="1",
        BRIDGE_PATH="hunter2",
    )
    policy = await ran(
        *(BRIDGE, "config", "check", "--json"), folder=tmp_path, BRIDGE_POLICY="policy.toml"
    )
    assert (command.process.returncode, policy.process.returncode) == (3, 3)
    assert [line.partition(" ")[0] for line in command.err.splitlines()] == ["bad"] * 3
    assert "did you mean BRIDGE_PORT?" in command.err
    assert "nonsense" in json.loads(policy.out.splitlines()[0])["problem"]
    assert "hunter2" not in command.err


async def test_workers_and_their_api_are_checked_together(tmp_path: Path) -> None:
    command = await ran(
        *(CONSUMERS, "config", "check"),
        folder=tmp_path,
        CONSUMERS_HANDLERS="no.such.module",
        FRIENDS_API_PORT="99999",
    )
    assert command.process.returncode == 3
    assert "CONSUMERS_HANDLERS: the handler module no.such.module" in command.err
    assert "FRIENDS_API_PORT='99999'" in command.err


@pytest.mark.parametrize("program", [BRIDGE, CONSUMERS])
async def test_what_is_allowed_is_said_to_be(program: tuple[str, ...], tmp_path: Path) -> None:
    command = await ran(program, "config", "check", folder=tmp_path)
    assert (command.process.returncode, command.out) == (0, "all settings are allowed\n")


async def test_each_value_is_shown_with_its_source_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text("[bridge]\nwindow = 7\n")
    (tmp_path / "url").write_text("amqp://bridge:hunter2@rabbit/vhost?keyfile=hunter2\n")
    command = await ran(
        *(BRIDGE, "config", "show", "--json"),
        folder=tmp_path,
        BRIDGE_CONFIG="all.toml",
        BRIDGE_AMQP_URL_FILE="url",
        BRIDGE_PATH="/hunter2",
        BRIDGE_PORT="1",
    )
    shown = {
        line["setting"]: (line["value"], line["source"])
        for line in map(json.loads, command.out.splitlines())
    }
    assert shown["BRIDGE_WINDOW"] == (7, "all.toml: [bridge] window")
    assert shown["BRIDGE_AMQP_URL"] == (
        "amqp://bridge:***@rabbit/vhost",
        "BRIDGE_AMQP_URL_FILE",
    )
    assert shown["BRIDGE_PATH"] == ("***", "BRIDGE_PATH")
    assert shown["BRIDGE_PORT"] == (1, "BRIDGE_PORT")
    assert shown["BRIDGE_HOST"] == ("127.0.0.1", "default")
    assert "hunter2" not in command.out + command.err


async def test_a_path_that_is_not_utf_8_is_shown(tmp_path: Path) -> None:
    command = await ran(
        *(BRIDGE, "config", "show", "--json"), folder=tmp_path, BRIDGE_JOURNAL_PATH="j\udcff"
    )
    shown = {
        line["setting"]: line["value"] for line in map(json.loads, command.out.splitlines())
    }
    assert (command.process.returncode, shown["BRIDGE_JOURNAL_PATH"]) == (0, "j\udcff")


@pytest.mark.parametrize("password", ["hunter2", "hun@ter2", "12/hunter2", "@/:hunter2"])
async def test_no_part_of_a_password_is_shown(tmp_path: Path, password: str) -> None:
    command = await ran(
        *(CONSUMERS, "config", "show"),
        folder=tmp_path,
        CONSUMERS_DATABASE_URL=f"postgresql://im:{password}@host/chat",
    )
    assert "ter2" not in command.out + command.err
    # Some of these are refused, and none is shown all the same.
    assert command.process.returncode in {0, 3}


async def test_people_get_a_line_for_each_setting(tmp_path: Path) -> None:
    command = await ran(
        *(CONSUMERS, "config", "show"), folder=tmp_path, FRIENDS_API_TOKEN=16 * "x"
    )
    lines = [line.split() for line in command.out.splitlines()]
    assert ["FRIENDS_API_TOKEN", "***", "FRIENDS_API_TOKEN"] in lines
    assert ["CONSUMERS_PREFETCH", "16", "default"] in lines
