"""Which module may import which, and how long a file may be: read from the sources."""

import ast
import sys
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TypeVar

import pytest

from bridge.metrics import REASONS

ROOT = Path(__file__).parents[1]

LONGEST_FILE = 300
LONG_FILES = {"bridge.journal"}
"""One class whose parts share most of its state; no other module may be so long."""

LONGEST_FUNCTION = 50

COMMANDS = {
    "bridge.commands",
    *(f"bridge.cli.{path.stem}" for path in ROOT.glob("bridge/cli/*.py")),
    *(f"consumers.cli.{path.stem}" for path in ROOT.glob("consumers/cli/*.py")),
    *("consumers.friends.cli", "consumers.messages.cli", "consumers.console.cli"),
}
"""The modules that read the environment, print and end the process."""

BROKER = {
    *("bridge.broker", "bridge.deliveries", "bridge.direct_reply", "bridge.queues"),
    *("bridge.declaring", "bridge.transport"),
}
"""The modules that know the client library."""

TOUCHES_THE_WORLD = {
    *("asyncio", "builtins", "io", "logging", "os", "pathlib", "random", "secrets"),
    *("socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib"),
    *("aiohttp", "aio_pika", "aiormq", "sqlalchemy"),
}

Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    text: str
    tree: ast.Module

    def imports(self) -> set[str]:
        """Give what it imports, wherever: modules, and names in them in full."""
        plain = {alias.name for node in self.nodes(ast.Import) for alias in node.names}
        of = {
            f"{node.module}.{alias.name}"
            for node in self.nodes(ast.ImportFrom)
            for alias in node.names
        }
        return plain | of

    def nodes(self, kind: type[Node]) -> list[Node]:
        """Give all nodes of a kind."""
        return [node for node in ast.walk(self.tree) if isinstance(node, kind)]


def read(path: Path) -> Module:
    """Read a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    text = path.read_text(encoding="utf-8")
    return Module(".".join(parts).removesuffix(".__init__"), text, ast.parse(text))


CODE = [
    read(path)
    for package in ("bridge", "consumers")
    for path in ROOT.glob(f"{package}/**/*.py")
]
TESTS = [read(path) for path in ROOT.glob("tests/**/*.py")]
NAMES = {module.name for module in CODE}


def under(prefix: str) -> list[Module]:
    """Give the modules of a package, and the module of that name."""
    return [module for module in CODE if f"{module.name}.".startswith(f"{prefix}.")]


def importing(modules: list[Module], prefix: str) -> set[str]:
    """Name those of `modules` that import something from `prefix`."""
    return {
        module.name
        for module in modules
        if any(f"{name}.".startswith(f"{prefix}.") for name in module.imports())
    }


def outermost(module: Module) -> set[str]:
    """Give the packages that a module imports from."""
    return {name.partition(".")[0] for name in module.imports()}


def ours(module: Module) -> set[str]:
    """Give the modules of ours that a module imports."""
    names = {name if name in NAMES else name.rpartition(".")[0] for name in module.imports()}
    return names & NAMES


def calls(module: Module, name: str) -> list[ast.Call]:
    """Give the calls of a function or method of that name."""
    return [
        call for call in module.nodes(ast.Call) if name in ast.unparse(call.func).split(".")
    ]


def task_groups(module: Module) -> set[str]:
    """Give the names under which a module opens task groups, or is given them."""
    opened = {
        ast.unparse(item.optional_vars)
        for block in module.nodes(ast.AsyncWith)
        for item in block.items
        if item.optional_vars and ast.unparse(item.context_expr) == "asyncio.TaskGroup()"
    }
    given = {
        argument.arg
        for argument in module.nodes(ast.arg)
        if argument.annotation and ast.unparse(argument.annotation) == "asyncio.TaskGroup"
    }
    return opened | given


def functions(module: Module) -> list[Function]:
    """Give all functions of a module, those in others too."""
    return [*module.nodes(ast.FunctionDef), *module.nodes(ast.AsyncFunctionDef)]


def length(function: Function) -> int:
    """Count the lines of a function."""
    return (function.end_lineno or 0) - function.lineno + 1


def test_the_sources_are_found() -> None:
    assert {"bridge", "bridge.contract.friend", "consumers.handlers"} < NAMES
    assert len(TESTS) > 10


def test_the_bridge_never_imports_the_consumers() -> None:
    assert importing(under("bridge"), "consumers") == set()


def test_nothing_imports_the_tests_or_what_only_sets_up() -> None:
    assert importing(CODE, "tests") | importing(CODE, "private_services") == set()


def test_the_contract_imports_nothing_of_ours_but_itself() -> None:
    imported = {name for module in under("bridge.contract") for name in ours(module)}
    assert all(name.startswith("bridge.contract") for name in imported)


def test_the_contract_touches_nothing_but_what_it_is_given() -> None:
    imported = {name for module in under("bridge.contract") for name in outermost(module)}
    assert imported & TOUCHES_THE_WORLD == set()


def test_the_topology_is_data() -> None:
    (topology,) = under("bridge.topology")
    assert outermost(topology) <= sys.stdlib_module_names - TOUCHES_THE_WORLD


@pytest.mark.parametrize("pure", ["bridge.contract", "bridge.topology", "bridge.settings"])
def test_what_is_pure_opens_nothing(pure: str) -> None:
    assert [call for module in under(pure) for call in calls(module, "open")] == []


@pytest.mark.parametrize("library", ["aio_pika", "aiormq"])
def test_only_the_broker_knows_the_client_library(library: str) -> None:
    assert importing(CODE, library) <= BROKER


def test_only_what_makes_spans_knows_opentelemetry() -> None:
    assert importing(CODE, "opentelemetry") == {"bridge.spans", "bridge.span_kinds"}


def test_handlers_see_events_and_sql_and_no_broker() -> None:
    allowed = (
        *("bridge.contract", "consumers.decisions", "consumers.registry"),
        *("consumers.friends.verifications", "consumers.friends.relations"),
        "consumers.messages.archive",
    )
    imported = {name for module in under("consumers.handlers") for name in ours(module)}
    assert [name for name in imported if not name.startswith(allowed)] == []


def test_workers_make_every_table() -> None:
    having = {module.name for module in CODE if calls(module, "Table")}
    (tables,) = under("consumers.tables")
    assert having <= ours(tables)
    assert "consumers.cli.work" in importing(CODE, "consumers.tables")


def test_no_import_leads_back_to_where_it_began() -> None:
    graph = {module.name: ours(module) - {module.name} for module in CODE}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ["environ", "getenv", "environb"])
def test_only_the_commands_read_the_environment(name: str) -> None:
    readers = {
        module.name
        for module in CODE
        for node in module.nodes(ast.Attribute)
        if node.attr == name
    }
    assert readers <= COMMANDS
    assert importing(CODE, f"os.{name}") == set()


def test_who_connects_goes_by_the_files_of_tls_too() -> None:
    readers = {
        module.name
        for module in CODE
        for node in module.nodes(ast.Attribute)
        if node.attr == "amqp_url"
    }
    # All others take `broker_url`; this one makes a URL for somebody who has other files.
    assert readers == {"bridge.connected", "bridge.cli.subscribe"}


def test_every_reason_to_reject_is_counted_from_zero() -> None:
    given = {
        ast.literal_eval(call.args[1]) for module in CODE for call in calls(module, "Rejected")
    }
    assert given == set(REASONS)


def test_only_the_commands_end_the_process() -> None:
    enders = {module.name for module in CODE if calls(module, "exit") or calls(module, "_exit")}
    assert enders <= COMMANDS | {"bridge.workers"}


def test_only_the_commands_print() -> None:
    printers = {module.name for module in CODE if calls(module, "print")}
    assert printers | importing(CODE, "click") <= COMMANDS


@pytest.mark.parametrize("module", CODE, ids=lambda module: module.name)
def test_every_task_lives_in_a_group(module: Module) -> None:
    owners = {ast.unparse(call.func).partition(".")[0] for call in calls(module, "create_task")}
    assert owners <= task_groups(module)


EVERYTHING = {"Exception", "BaseException"}


def test_only_what_answers_calls_handlers_or_connects_catches_everything() -> None:
    catchers = {
        module.name
        for module in CODE
        for handler in module.nodes(ast.ExceptHandler)
        if handler.type is None
        or not EVERYTHING.isdisjoint(ast.unparse(handler.type).strip("()").split(", "))
        # What only tidies up goes on.
        if ast.unparse(handler.body[-1]) != "raise"
    }
    answering = {"bridge.connection", "consumers.console.front", "consumers.deciding"}
    calling = {"consumers.calling", "consumers.modules", "consumers.settling"}
    connecting = {"bridge.broker"}
    assert catchers == answering | calling | connecting


@pytest.mark.parametrize("module", CODE, ids=lambda module: module.name)
def test_a_module_fits_into_a_head(module: Module) -> None:
    assert module.name in LONG_FILES or module.text.count("\n") <= LONGEST_FILE


@pytest.mark.parametrize("module", [*CODE, *TESTS], ids=lambda module: module.name)
def test_a_function_fits_onto_a_screen(module: Module) -> None:
    assert [f.name for f in functions(module) if length(f) > LONGEST_FUNCTION] == []
