"""What the console answers, as data: methods, paths, and which role each asks for."""

from dataclasses import dataclass

from consumers.console.access import Role


@dataclass(frozen=True, kw_only=True)
class Route:
    """One thing that can be asked for."""

    method: str
    path: str
    name: str
    role: Role | None
    """The least that one has to be; None: anybody."""


@dataclass(frozen=True, kw_only=True)
class Tab(Route):
    """A page, live while it is looked at."""

    method: str = "GET"
    title: str
    listed: bool = True
    """Whether the menu has it."""


def _open(method: str, path: str, name: str) -> Route:
    return Route(method=method, path=path, name=name, role=None)


def _act(path: str, name: str, role: Role = Role.OPERATOR) -> Route:
    return Route(method="POST", path=path, name=name, role=role)


def _tab(path: str, name: str, title: str, role: Role = Role.VIEWER) -> Tab:
    return Tab(path=path, name=name, title=title, role=role)


TABS = (
    _tab("/", "overview", "Overview"),
    _tab("/flow", "flow", "Flow"),
    _tab("/events", "events", "Events"),
    _tab("/dead-letters", "letters", "Dead letters"),
    _tab("/subscriptions", "subscriptions", "Subscriptions"),
    _tab("/friends", "friends", "Friends"),
    _tab("/setup", "setup", "Set-up"),
    _tab("/audit", "audit", "Audit", Role.ADMIN),
    Tab(path="/event", name="event", title="Event", role=Role.VIEWER, listed=False),
    Tab(path="/dead-letter", name="letter", title="Letter", role=Role.VIEWER, listed=False),
)

ROUTES: tuple[Route, ...] = (
    *TABS,
    Route(method="GET", path="/live", name="live", role=Role.VIEWER),
    Route(method="GET", path="/documents/{file}", name="documents", role=Role.VIEWER),
    _act("/logout", "logout", Role.VIEWER),
    _act("/dead-letters/replay", "replay"),
    _act("/dead-letters/discard", "discard"),
    _act("/subscriptions/pause", "pause"),
    _act("/subscriptions/resume", "resume"),
    _act("/setup/sample", "sample"),
    _act("/event/body", "body", Role.ADMIN),
    _open("GET", "/login", "login_page"),
    _open("POST", "/login", "login"),
    _open("GET", "/static/{file}", "static"),
    # Browsers ask for it where a page names no icon, as the page of all callbacks does.
    _open("GET", "/favicon.ico", "icon"),
    _open("GET", "/livez", "livez"),
    _open("GET", "/readyz", "readyz"),
    _open("GET", "/metrics", "metrics"),
)
"""Everything; what is not here is not answered, and a route without a role is open."""
