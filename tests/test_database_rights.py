"""Each user of PostgreSQL can do the work of its process, and nothing more."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import asyncpg  # type: ignore[import-untyped]
import pytest
from yarl import URL

from bridge.contract import AfterAddFriend
from consumers import database, dead_letter_audit, tables
from consumers.dead_letters import Letter
from consumers.handlers import friend_verification
from tests.commands import CONSUMERS, Command, ran
from tests.console import console
from tests.friends_api import get, serving

RIGHTS = Path(__file__).parents[1] / "deploy/postgres/rights.sql"

ROLES = ("consumers", "api", "console", "operator")

PASSWORD = "the-password-of-all"  # noqa: S105  # nobody's

NAMES = sorted(table.name for table in tables.ALL)

RIGHTS_OF = {
    "api": {
        "friend_relations": "SELECT",
        "friend_verification_messages": "SELECT",
    },
    "console": {
        "console_audit": "INSERT SELECT",
        "dead_letter_audit": "INSERT",
        "friend_verification_messages": "SELECT",
        "paused_subscriptions": "DELETE INSERT SELECT",
    },
    "operator": {
        "archived_messages": "DELETE SELECT",
        "console_audit": "INSERT SELECT",
        "dead_letter_audit": "INSERT SELECT",
        "friend_relations": "SELECT",
        "friend_verification_messages": "SELECT",
        "message_erasures": "INSERT SELECT",
        "message_revocations": "SELECT",
        "paused_subscriptions": "DELETE INSERT SELECT",
    },
}
"""What each may do, table by table; the workers own them all."""

FORBIDDEN = [
    *(
        "UPDATE console_audit SET who = ''",
        "DELETE FROM console_audit",
        "DROP TABLE console_audit",
    ),
    *("UPDATE dead_letter_audit SET who = ''", "TRUNCATE dead_letter_audit"),
    *("UPDATE message_erasures SET who = ''", "DELETE FROM message_erasures"),
    *("SELECT * FROM inbox", "CREATE TABLE mine (id int)", "SELECT lo_create(0)"),
    *("CALL rights.give()", "DROP EVENT TRIGGER rights_given", "SET ROLE consumers"),
]

PAUSED = friend_verification.handlers.subscription

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@dataclass(frozen=True)
class Shared:
    """A database with our roles."""

    superuser: str

    def url(self, role: str) -> str:
        """Give where a role connects."""
        return str(URL(self.superuser).with_user(role).with_password(PASSWORD))

    async def run(self, role: str, statement: str) -> None:
        """Run SQL as a role, or as the superuser for ""."""
        connection = await asyncpg.connect(self.url(role) if role else self.superuser)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def refused(self, role: str, statements: list[str]) -> list[str]:
        """Give those statements for which a role lacks the right."""
        found = []
        for statement in statements:
            try:
                await self.run(role, statement)
            except asyncpg.InsufficientPrivilegeError:
                found.append(statement)
        return found

    async def operate(self, folder: Path, *words: str) -> Command:
        """Run a command as the operator does."""
        variables = {"CONSUMERS_DATABASE_URL": self.url("operator")}
        return await ran(CONSUMERS, *words, folder=folder, **variables)

    async def give_rights(self) -> None:
        """Do what an upgrade does."""
        await self.run("", RIGHTS.read_text(encoding="utf-8"))

    async def make_tables(self) -> None:
        """Do what a worker does when it starts."""
        async with database.opened(self.url("consumers")) as opened:
            await opened.create_tables()

    async def rights_of(self, role: str) -> dict[str, str]:
        """Give what a role may do, by table."""
        connection = await asyncpg.connect(self.superuser)
        try:
            rows = await connection.fetch(
                "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)"
                " FROM information_schema.table_privileges"
                " WHERE table_schema = 'public' AND grantee IN ($1, 'PUBLIC') GROUP BY 1",
                role,
            )
        finally:
            await connection.close()
        return dict(rows)


def created(role: str) -> str:
    """Give SQL that makes a role, which all databases of a server share."""
    return f"""DO $$ BEGIN CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;"""


@pytest.fixture
async def shared(database_url: str) -> Shared:
    """An empty database that workers own."""
    shared = Shared(database_url)
    owned = f"ALTER DATABASE {URL(database_url).path[1:]} OWNER TO consumers"
    await shared.run("", "".join(map(created, ROLES)) + owned)
    return shared


@pytest.fixture
async def ready(shared: Shared) -> Shared:
    """One where a worker has been, after rights were given."""
    await shared.give_rights()
    await shared.make_tables()
    return shared


@pytest.mark.parametrize("role", RIGHTS_OF)
async def test_each_may_do_its_work_and_nothing_else(ready: Shared, role: str) -> None:
    assert await ready.rights_of(role) == RIGHTS_OF[role]


async def test_a_database_that_is_older_gets_the_same_rights(shared: Shared) -> None:
    await shared.run(
        "",
        "ALTER SCHEMA public OWNER TO consumers;"
        "ALTER DEFAULT PRIVILEGES FOR ROLE consumers GRANT SELECT ON TABLES TO api",
    )
    await shared.make_tables()
    # Other tests may have tables of their own.
    assert set(await shared.rights_of("api")) >= set(NAMES)
    await shared.give_rights()
    await shared.give_rights()
    assert [await shared.rights_of(role) for role in RIGHTS_OF] == [*RIGHTS_OF.values()]


async def test_a_table_of_a_later_release_is_for_nobody_else(ready: Shared) -> None:
    await ready.run("consumers", "CREATE TABLE later (id int)")
    assert [await ready.rights_of(role) for role in RIGHTS_OF] == [*RIGHTS_OF.values()]


@pytest.mark.parametrize("role", RIGHTS_OF)
async def test_nobody_else_alters_audit_logs_or_makes_anything(
    ready: Shared, role: str
) -> None:
    assert await ready.refused(role, FORBIDDEN) == FORBIDDEN


async def test_the_friends_api_answers(ready: Shared) -> None:
    async with serving(ready.url("api")) as backend:
        assert (await get(backend, "/friends/verifications"))[0] == 200
        assert (await get(backend, "/friends?user=ann"))[0] == 200


async def test_the_operator_pauses_and_the_console_resumes(
    ready: Shared, tmp_path: Path
) -> None:
    words = "subscriptions", "pause", PAUSED, "--reason", "a test"
    paused = await ready.operate(tmp_path, *words)
    assert paused.process.returncode == 0, paused.err
    async with (
        console(tmp_path, database_url=ready.url("console")) as running,
        running.person("admin") as person,
    ):
        status, page = await person.does("/subscriptions/resume", subscription=PAUSED)
        assert (status, "goes on" in page) == (200, True)
        assert await person.page("/friends")
        assert PAUSED in await person.page("/audit")


@pytest.mark.parametrize("role", ["console", "operator"])
async def test_who_settles_dead_letters_notes_it(ready: Shared, role: str) -> None:
    act = dead_letter_audit.Act(action=dead_letter_audit.REPLAY, who="ann")
    delivery = SimpleNamespace(message_id="m1", command=AfterAddFriend.command, headers={})
    letter = Letter(subscription=PAUSED, delivery=delivery)  # type: ignore[arg-type]
    async with (
        database.opened(ready.url(role)) as opened,
        opened.transaction() as transaction,
    ):
        await dead_letter_audit.add(transaction, act, [letter])


async def test_the_operator_erases_messages(ready: Shared, tmp_path: Path) -> None:
    await ready.run(
        "consumers",
        "INSERT INTO archived_messages VALUES ('1', 'c', 1, 'ann', 101, '{}', '', 1, 1)",
    )
    words = "erase", "--user", "ann", "--reason", "asked by mail", "--yes"
    erased = await ready.operate(tmp_path, "messages", *words)
    assert "1 erased" in erased.out, erased.err


async def test_a_function_of_the_workers_is_not_run_by_the_superuser(ready: Shared) -> None:
    await ready.run(
        "consumers",
        "CREATE FUNCTION public.format(text, text, text, text) RETURNS text LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'run by %', current_user; END $$",
    )
    await ready.give_rights()
    assert await ready.rights_of("api") == RIGHTS_OF["api"]
