"""What can be set, from where, and what is said about mistakes."""

from pathlib import Path

import pytest

from bridge.loading import BadSettings, load
from bridge.settings import TABLES, Receiver, Settings
from consumers.settings import Console, FriendsApi, Worker

KINDS: list[type[Settings]] = [Receiver, Worker, FriendsApi, Console]


def problems(environment: dict[str, str], kind: type[Settings] = Receiver) -> list[str]:
    """Give what is wrong with the settings of an environment."""
    with pytest.raises(BadSettings) as caught:
        load(kind, environment)
    return caught.value.problems


def in_file(folder: Path, text: str | bytes) -> dict[str, str]:
    """Give an environment that names a settings file with this text."""
    file = folder / "settings.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {"BRIDGE_CONFIG": str(file), "CONSUMERS_CONFIG": str(file)}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_needs_to_be_set(kind: type[Settings]) -> None:
    assert load(kind, {}) == kind()


def test_every_kind_of_process_has_a_table_of_its_own() -> None:
    assert tuple(kind.table for kind in KINDS) == TABLES


def test_a_variable_sets_a_setting() -> None:
    set_ = load(
        Receiver,
        {"BRIDGE_PORT": "8080", "BRIDGE_ARRIVAL_TIMEOUT": "1.5", "BRIDGE_LOG_FORMAT": "text"},
    )
    assert set_ == Receiver(port=8080, arrival_timeout=1.5, log_format="text")


def test_variables_of_others_are_nobodys_business() -> None:
    environment = {"CONSUMERS_PREFETCH": "x", "AMQP_URL": "", "bridge_port": "1", "BRIDGE": ""}
    assert load(Receiver, environment) == Receiver()


def test_a_file_sets_settings(tmp_path: Path) -> None:
    environment = in_file(tmp_path, '[bridge]\nport = 8080\nhost = "::"\narrival_timeout = 2\n')
    assert load(Receiver, environment) == Receiver(port=8080, host="::", arrival_timeout=2.0)


def test_processes_share_a_file(tmp_path: Path) -> None:
    environment = in_file(tmp_path, "[bridge]\nport = 8080\n[consumers]\nprefetch = 3\n")
    assert load(Receiver, environment) == Receiver(port=8080)
    assert load(Worker, environment) == Worker(prefetch=3)


def test_a_file_may_leave_a_table_out(tmp_path: Path) -> None:
    assert load(Receiver, in_file(tmp_path, "[consumers]\nprefetch = 3\n")) == Receiver()


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    environment = in_file(tmp_path, "[bridge]\nport = 8080\nwindow = 5\n")
    assert load(Receiver, environment | {"BRIDGE_PORT": "1"}) == Receiver(port=1, window=5)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("PORT", "65536", "a whole number at least 0 and at most 65,535"),
        ("PORT", "-1", "a whole number at least 0 and at most 65,535"),
        ("PORT", "", "a whole number at least 0 and at most 65,535"),
        ("PORT", "http", "a whole number at least 0 and at most 65,535"),
        ("PORT", "80.5", "a whole number at least 0 and at most 65,535"),
        ("PORT", "1e3x", "a whole number at least 0 and at most 65,535"),
        ("PORT", "\udcff", "a whole number at least 0 and at most 65,535"),
        ("PORT", "true", "a whole number at least 0 and at most 65,535"),
        ("MAX_BODY", "1", "a whole number at least 1,024 and at most 15,728,640"),
        ("ARRIVAL_TIMEOUT", "0", "a number above 0 and at most 15"),
        ("ARRIVAL_TIMEOUT", "nan", "a number above 0 and at most 15"),
        ("ARRIVAL_TIMEOUT", "inf", "a number above 0 and at most 15"),
        ("ARRIVAL_TIMEOUT", "", "a number above 0 and at most 15"),
        ("KEEPALIVE_TIMEOUT", "inf", "a number at least 60 and at most 604,800"),
        ("KEEPALIVE_TIMEOUT", "1e999", "a number at least 60 and at most 604,800"),
        ("LOG_LEVEL", "INFO", "one of debug, info, warning, error"),
        ("LOG_FORMAT", "", "one of json, text"),
        ("JOURNAL_PATH", "", "text, not empty"),
        ("HOST", "", "an IP address or a host name"),
        ("HOST", "local host", "an IP address or a host name"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(
    variable: str, value: str, allowed: str
) -> None:
    assert problems({f"BRIDGE_{variable}": value}) == [
        f"BRIDGE_{variable}={value!r} is not allowed: {allowed}"
    ]


def test_a_long_bad_value_is_not_repeated_to_its_end() -> None:
    (problem,) = problems({"BRIDGE_PORT": "9" * 10_000})
    assert len(problem) < 200


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    environment = in_file(tmp_path, "[bridge]\nprot = 1\n[brigde]\n[consumers]\nwindow = 0\n")
    environment |= {"BRIDGE_PORT": "x", "BRIDGE_WINDOW": "0", "BRIDGE_PATHS": "/x"}
    file = environment["BRIDGE_CONFIG"]
    assert problems(environment) == [
        f"{file}: brigde is not a table; did you mean bridge?",
        f"{file}: [bridge] prot is not a setting; did you mean port?",
        "BRIDGE_PATHS is not a setting; did you mean BRIDGE_PATH?",
        "BRIDGE_PORT='x' is not allowed: a whole number at least 0 and at most 65,535",
        "BRIDGE_WINDOW='0' is not allowed: a whole number at least 1 and at most 4,096",
    ]


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("BRIDGE_PROT", "BRIDGE_PORT"),
        ("BRIDGE_AMQPURL", "BRIDGE_AMQP_URL"),
        ("BRIDGE_CONFIGURATION", "BRIDGE_CONFIG"),
        ("BRIDGE_PORT_FILE", "BRIDGE_PORT"),
        ("BRIDGE_path", "BRIDGE_PATH"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_suggestion(
    variable: str, suggestion: str
) -> None:
    assert problems({variable: "1"}) == [
        f"{variable} is not a setting; did you mean {suggestion}?"
    ]


def test_a_name_like_no_other_is_refused_with_all_there_are(tmp_path: Path) -> None:
    environment = in_file(tmp_path, "xyz = 1\n") | {"BRIDGE_ZZZZZZZZ": "1"}
    in_the_file, in_the_environment = problems(environment)
    assert in_the_file.endswith(
        "xyz is not a table; known are bridge, consumers, friends_api, console"
    )
    assert "BRIDGE_HOST, BRIDGE_PORT, BRIDGE_PATH, " in in_the_environment


@pytest.mark.parametrize(
    "text",
    ["bridge = 1", "bridge = 'x'", "[[bridge]]", "bridge = []", "bridge = 1979-05-27"],
)
def test_a_table_must_be_one(tmp_path: Path, text: str) -> None:
    (problem,) = problems(in_file(tmp_path, text))
    assert problem.endswith("settings.toml: bridge must be a table, [bridge]")


@pytest.mark.parametrize(
    "line",
    [
        "port = '8080'",
        "port = 8080.0",
        "port = true",
        "port = []",
        "port = {}",
        "port = 99999999999999999999",
        "host = 1",
        "arrival_timeout = '1'",
        "arrival_timeout = false",
        "arrival_timeout = nan",
        "keepalive_timeout = inf",
        "log_level = 3",
        "journal_path = 1979-05-27",
    ],
)
def test_a_value_in_the_file_must_be_of_its_type(tmp_path: Path, line: str) -> None:
    name = line.partition(" ")[0]
    (problem,) = problems(in_file(tmp_path, f"[bridge]\n{line}\n"))
    assert f"settings.toml: [bridge] {name}=" in problem
    assert " is not allowed: " in problem


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[bridge", "Expected ']'"),
        (b"[bridge]\nport = 1\nport = 2\n", "Cannot overwrite a value"),
        (b"\xff", "codec can't decode"),
    ],
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: bytes, reason: str) -> None:
    (problem,) = problems(in_file(tmp_path, text))
    assert "settings.toml' cannot be read: " in problem
    assert reason in problem


@pytest.mark.parametrize("name", ["missing.toml", ".", ""])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = name and str(tmp_path / name)
    (problem,) = problems({"BRIDGE_CONFIG": path})
    assert problem.startswith(f"BRIDGE_CONFIG={path!r} cannot be read: ")


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        (Receiver, "BRIDGE_AMQP_URL"),
        (Receiver, "BRIDGE_PATH"),
        (Worker, "CONSUMERS_AMQP_URL"),
        (Worker, "CONSUMERS_DATABASE_URL"),
    ],
)
def test_a_bad_secret_is_not_shown(tmp_path: Path, kind: type[Settings], variable: str) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2")
    by_value = problems({variable: "hunter2"}, kind)
    by_file = problems({f"{variable}_FILE": str(file)}, kind)
    table, name = variable.lower().split("_", 1)
    by_table = problems(in_file(tmp_path, f"[{table}]\n{name} = 'hunter2'\n"), kind)
    assert f"{variable}=*** is not allowed: " in by_value[0]
    assert f"{variable}_FILE=*** is not allowed: " in by_file[0]
    assert f"[{table}] {name}=*** is not allowed: " in by_table[0]
    assert "hunter2" not in str([by_value, by_file, by_table])


def test_a_secret_may_lie_in_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "path"
    file.write_text("/callback/4f1c9a\n")
    assert load(Receiver, {"BRIDGE_PATH_FILE": str(file)}).path == "/callback/4f1c9a"


def test_a_secret_is_set_once() -> None:
    assert problems({"BRIDGE_PATH_FILE": "path", "BRIDGE_PATH": "/x"}) == [
        "BRIDGE_PATH and BRIDGE_PATH_FILE are both set; keep one of them"
    ]


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_secrets_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    (problem,) = problems({"BRIDGE_PATH_FILE": path})
    assert problem.startswith(f"BRIDGE_PATH_FILE={path!r} cannot be read: ")


def test_a_secrets_file_must_be_text(tmp_path: Path) -> None:
    file = tmp_path / "path"
    file.write_bytes(b"/x\xff")
    (problem,) = problems({"BRIDGE_PATH_FILE": str(file)})
    assert "cannot be read: 'utf-8' codec can't decode" in problem


@pytest.mark.parametrize(
    "path", ["", "/", "callback", "/callback/", "//x", "/a b", "/x\n", "/ü", "/" + "x" * 500]
)
def test_a_path_that_could_not_precede_a_command_is_refused(path: str) -> None:
    (problem,) = problems({"BRIDGE_PATH": path})
    assert problem == (
        "BRIDGE_PATH=*** is not allowed: a path such as `/callback/4f1c9a`: letters, digits"
        " and `-._~`, no slash at the end"
    )


@pytest.mark.parametrize("path", ["/x", "/callbackExample", "/a/b/c-D_0.~"])
def test_a_path_may_have_parts(path: str) -> None:
    assert load(Receiver, {"BRIDGE_PATH": path}).path == path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://localhost/",
        "amqp:/localhost",
        "amqp://",
        "amqp:///vhost",
        "amqp://:5672/",
        "amqp://user:password@/vhost",
        "amqp://localhost:port/",
        "amqp://localhost:99999/",
        "amqp://localhost:0/",
        "amqp://user:pass#word@localhost/",
        "amqp://user:pass/word@localhost/",
        "amqp://[::1/",
        "amqp://local host/",
        "amqp://localhost/\n",
        "amqp://\udcff/",
    ],
)
def test_an_amqp_url_that_names_no_broker_is_refused(url: str) -> None:
    (problem,) = problems({"BRIDGE_AMQP_URL": url})
    assert problem == (
        "BRIDGE_AMQP_URL=*** is not allowed: a URL such as"
        " `amqp://user:password@host:5672/vhost`"
    )


@pytest.mark.parametrize(
    "url",
    [
        "amqp://localhost",
        "amqp://[::1]:5672/",
        "amqps://user:p%23ss@rabbit.example:5671/im?cafile=/ca.pem",
    ],
)
def test_an_amqp_url_may_be_short_or_long(url: str) -> None:
    assert load(Receiver, {"BRIDGE_AMQP_URL": url}).amqp_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite://",
        "sqlite:///",
        "mysql://localhost/x",
        "postgresql://",
        "postgresql://localhost:port/x",
        "postgresql://localhost:99999/x",
        "postgresql://localhost:0/x",
        "postgresql://localhost/x\n",
    ],
)
def test_a_database_url_that_names_no_database_is_refused(url: str) -> None:
    (problem,) = problems({"CONSUMERS_DATABASE_URL": url}, Worker)
    assert problem.startswith("CONSUMERS_DATABASE_URL=*** is not allowed: a URL such as ")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///consumers.db",
        "sqlite:////var/lib/my files/consumers.db",
        "postgres://user:password@localhost:5432/x",
        "postgresql:///x?host=/var/run/postgresql",
    ],
)
def test_a_database_may_be_a_file_or_a_server(url: str) -> None:
    assert load(Worker, {"CONSUMERS_DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize("modules", ["", ",", "a,", "a b", ".a", "a..b", "a, b", "a/b.py"])
def test_handlers_are_names_of_modules(modules: str) -> None:
    (problem,) = problems({"CONSUMERS_HANDLERS": modules}, Worker)
    assert problem.startswith(
        f"CONSUMERS_HANDLERS={modules!r} is not allowed: names of modules"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_settings_cannot_be_changed_later(kind: type[Settings]) -> None:
    with pytest.raises(AttributeError):
        kind().table = "x"  # type: ignore[misc]
