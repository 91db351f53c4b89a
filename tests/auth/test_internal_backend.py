"""The internal backend: features/auth 5a "Default user", "Password-less user"; 5b."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from leveret.auth import passwords
from leveret.auth.contracts import AccessDenied, Credentials, Permission, Principal, Resource
from leveret.auth.internal import AuthDataError, InternalBackend, NoSuchUser, UserExists
from leveret.auth.passwords import hash_password
from leveret.conf.settings import Auth, Store
from leveret.core.store.lmdb.store import LmdbStore

VECTOR = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"  # of "test12"
CONFIGURE, WRITE, READ = Permission.CONFIGURE, Permission.WRITE, Permission.READ
CERTIFICATE: dict[str, object] = {"subject": ((("commonName", "x"),),)}


class Table:
    """A store's definitions, without a store."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def put_definition(self, key: bytes, value: bytes) -> None:
        self.rows[key] = value

    def delete_definition(self, key: bytes) -> None:
        self.rows.pop(key, None)

    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(row for row in self.rows.items() if row[0].startswith(prefix)))


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def users(table: Table) -> InternalBackend:
    backend = InternalBackend(Auth())
    backend.attach(table)
    return backend


def reopened(table: Table) -> InternalBackend:
    backend = InternalBackend(Auth())
    backend.attach(table)
    return backend


def principal(name: str = "u", **more: Any) -> Principal:
    return Principal(name, **more)


def state(backend: InternalBackend, *vhosts: str) -> object:
    return (
        sorted(backend.list_users(), key=lambda user: user.name),
        [sorted(backend.list_permissions(vhost), key=str) for vhost in vhosts],
        [sorted(backend.list_topic_permissions(vhost), key=str) for vhost in vhosts],
    )


# -- the default user


def test_the_default_user(users: InternalBackend, table: Table) -> None:
    users.ensure_default_user()
    assert [user.name for user in users.list_users()] == ["guest"]
    guest = users.authenticate_password("guest", "guest")
    assert guest is not None
    assert guest.tags == {"administrator"}
    for permission in Permission:
        assert users.authorize(guest, "/", permission, Resource("queue", "any"))
    assert users.authorize(guest, "/", None, Resource("vhost", "/"))
    assert b"guest" not in table.rows[b"user/guest"].replace(b'"name": "guest"', b"")


def test_the_default_user_is_made_only_where_there_are_none(users: InternalBackend, table: Table) -> None:
    users.add_user("ann", "secret")
    users.ensure_default_user()
    assert [user.name for user in users.list_users()] == ["ann"]
    again = reopened(table)
    again.ensure_default_user()
    assert [user.name for user in again.list_users()] == ["ann"]


def test_the_default_user_as_configured() -> None:
    none = InternalBackend(Auth(default_user=""))
    none.ensure_default_user()
    assert none.list_users() == []
    mine = InternalBackend(Auth(default_user="me", default_pass="pw", default_vhost="v"))
    mine.ensure_default_user()
    assert mine.authenticate_password("me", "pw") == Principal("me", frozenset({"administrator"}))
    assert [vhost for vhost, _ in mine.list_user_permissions("me")] == ["v"]


def test_a_default_user_without_a_password(caplog: pytest.LogCaptureFixture) -> None:
    mine = InternalBackend(Auth(default_pass=""))
    mine.ensure_default_user()
    for password in ("", "guest"):
        with pytest.raises(AccessDenied):
            mine.authenticate_password("guest", password)
    assert "user=guest has no password" in caplog.text


# -- logging in


def test_passwords(users: InternalBackend) -> None:
    users.add_user("u", "secret", ["management", "monitoring"])
    for _ in range(2):  # the second time it is remembered
        assert users.authenticate_password("u", "secret") == Principal(
            "u", frozenset({"management", "monitoring"}), "internal"
        )
    for wrong in ("Secret", "secret ", "x", "\udcff", "\ud800"):
        with pytest.raises(AccessDenied, match=r"^user 'u' - invalid credentials$"):
            users.authenticate_password("u", wrong)
    with pytest.raises(AccessDenied, match=r"^user 'u' attempted to log in with a blank password"):
        users.authenticate_password("u", "")
    assert users.authenticate_password("nobody", "secret") is None
    assert users.authenticate_password("nobody", "") is None
    assert users.authenticate_password("", "") is None


def test_unknown_users_cost_the_same_work(users: InternalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def note(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            done.append(name)
            return function(*arguments)

        return noted

    users.add_user("u", "secret")
    monkeypatch.setattr(passwords, "verify", note("verify", passwords.verify))
    monkeypatch.setattr(type(users._verified), "knows", note("knows", type(users._verified).knows))
    with pytest.raises(AccessDenied):
        users.authenticate_password("u", "wrong")
    known, done[:] = done[:], []
    assert users.authenticate_password("nobody", "wrong") is None
    assert done == known == ["knows", "verify"]


async def test_by_certificate(users: InternalBackend) -> None:
    users.put_user("CN=x", tags=["management"])
    known = Credentials("EXTERNAL", "CN=x", certificate=CERTIFICATE)
    assert await users.authenticate(known) == Principal("CN=x", frozenset({"management"}))
    assert await users.authenticate(Credentials("EXTERNAL", "CN=y", certificate=CERTIFICATE)) is None
    with pytest.raises(AccessDenied, match="no verified certificate"):
        await users.authenticate(Credentials("EXTERNAL", "CN=x"))
    with pytest.raises(AccessDenied):  # no hash: no password
        await users.authenticate(Credentials("PLAIN", "CN=x", "anything"))


async def test_anonymous(users: InternalBackend) -> None:
    users.add_user("u", "secret")
    users.add_user("anyone", "secret")
    for name in ("u", "", None):
        with pytest.raises(AccessDenied, match="anonymous logins are off"):
            await users.authenticate(Credentials("ANONYMOUS", name))
    configured = InternalBackend(Auth(anonymous_user="anyone"))
    configured.add_user("u", "secret")
    assert await configured.authenticate(Credentials("ANONYMOUS", "anyone")) is None  # no such user
    configured.add_user("anyone", "secret")
    assert await configured.authenticate(Credentials("ANONYMOUS", "anyone")) == Principal("anyone")
    with pytest.raises(AccessDenied):
        await configured.authenticate(Credentials("ANONYMOUS", "u"))


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN", "HTTP", "", "external"])
async def test_every_other_mechanism_needs_the_password(users: InternalBackend, mechanism: str) -> None:
    users.add_user("u", "secret")
    assert await users.authenticate(Credentials(mechanism, "u", "secret")) == Principal("u")
    for password in (None, "", "wrong"):
        with pytest.raises(AccessDenied):
            await users.authenticate(Credentials(mechanism, "u", password, certificate=CERTIFICATE))


def test_a_changed_password_holds_at_once(users: InternalBackend) -> None:
    users.add_user("u", "old")
    users.authenticate_password("u", "old")
    users.set_password("u", "new")
    with pytest.raises(AccessDenied):
        users.authenticate_password("u", "old")
    assert users.authenticate_password("u", "new")
    users.clear_password("u")
    with pytest.raises(AccessDenied):
        users.authenticate_password("u", "new")
    users.set_password_hash("u", VECTOR)
    assert users.authenticate_password("u", "test12")
    users.delete_user("u")
    assert users.authenticate_password("u", "test12") is None
    users.add_user("u", "again")
    with pytest.raises(AccessDenied):
        users.authenticate_password("u", "test12")


# -- imported hashes


@pytest.mark.parametrize("word", ["sha256", "sha512", "md5"])
@pytest.mark.parametrize("is_named", [True, False])
def test_hashes_are_taken_as_they_are(users: InternalBackend, word: str, is_named: bool) -> None:
    algorithm = f"rabbit_password_hashing_{word}"
    stored = hash_password("secret", algorithm)
    users.put_user(
        "u",
        password_hash=stored,
        hashing_algorithm=algorithm if is_named else None,
        tags=["a", "b", "a"],
        limits={"max-channels": -1},
    )
    user = users.user("u")
    assert (user.password_hash, user.hashing_algorithm) == (stored, algorithm)
    assert (user.tags, user.limits) == (("a", "b"), {"max-channels": -1})
    assert users.authenticate_password("u", "secret")
    users.set_password_hash("u", VECTOR)
    assert users.user("u").tags == ("a", "b")


@pytest.mark.parametrize(
    ("stored", "algorithm"),
    [
        ("!", None),
        ("AAAA", None),
        (VECTOR, "rabbit_password_hashing_md5"),
        (VECTOR, "bcrypt"),
        ("", "bcrypt"),
    ],
)
def test_hashes_that_are_none(users: InternalBackend, stored: str, algorithm: str | None) -> None:
    users.add_user("u", "secret")
    with pytest.raises(AuthDataError):
        users.put_user("u", password_hash=stored, hashing_algorithm=algorithm)
    with pytest.raises(AuthDataError):
        users.set_password_hash("u", stored, algorithm)
    assert users.authenticate_password("u", "secret")


# -- what cannot be


def test_errors_are_one_sentence(users: InternalBackend) -> None:
    users.add_user("u", "secret")
    with pytest.raises(UserExists, match=r"^User 'u' already exists$"):
        users.add_user("u", "other")
    for change in (
        lambda: users.delete_user("v"),
        lambda: users.set_password("v", "x"),
        lambda: users.set_password_hash("v", VECTOR),
        lambda: users.clear_password("v"),
        lambda: users.set_tags("v", []),
        lambda: users.set_user_limits("v", {}),
        lambda: users.set_permissions("v", "/", "", "", ""),
        lambda: users.clear_permissions("v", "/"),
        lambda: users.list_user_permissions("v"),
        lambda: users.set_topic_permissions("v", "/", "amq.topic", "", ""),
        lambda: users.clear_topic_permissions("v", "/"),
        lambda: users.user("v"),
    ):
        with pytest.raises(NoSuchUser, match=r"^User 'v' does not exist$"):
            change()


def test_bad_data_changes_nothing(users: InternalBackend, table: Table) -> None:
    users.add_user("u", "secret")
    users.set_permissions("u", "/", "a", "b", "c")
    before, revision = dict(table.rows), users.revision
    lone = "\ud800"
    changes: tuple[Callable[[], object], ...] = (
        lambda: users.add_user("", "x"),
        lambda: users.add_user("w", ""),
        lambda: users.add_user("w\0x", "x"),
        lambda: users.add_user(lone, "x"),
        lambda: users.add_user("w", lone),
        lambda: users.put_user(""),
        lambda: users.put_user("w", tags=[""]),
        lambda: users.set_password("u", ""),
        lambda: users.set_password("u", lone),
        lambda: users.set_tags("u", ["ok", ""]),
        lambda: users.set_tags("u", [1]),  # type: ignore[list-item]
        lambda: users.set_user_limits("u", {"max-foo": 1}),
        lambda: users.set_user_limits("u", {"max-channels": "1"}),  # type: ignore[dict-item]
        lambda: users.set_user_limits("u", {"max-channels": True}),
        lambda: users.set_permissions("u", "/", "[", ".*", ".*"),
        lambda: users.set_permissions("u", "/", ".*", "x" * 1025, ".*"),
        lambda: users.set_permissions("u", "/", ".*", ".*", "*"),
        lambda: users.set_permissions("u", "a\0b", ".*", ".*", ".*"),
        lambda: users.set_topic_permissions("u", "/", "t", "[", ""),
        lambda: users.set_topic_permissions("u", "/", "t\0", "", ""),
    )
    for change in changes:
        with pytest.raises(AuthDataError) as raised:
            change()
        assert not str(raised.value).endswith(".")
        assert "\n" not in str(raised.value)
    assert (table.rows, users.revision) == (before, revision)


def test_errors_and_records_show_no_password(
    users: InternalBackend, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        users.add_user("u", "hunter2")
        users.set_password("u", "hunter2")
        users.authenticate_password("u", "hunter2")
        with pytest.raises(AuthDataError) as raised:
            users.set_password("u", "hunter2\ud800")
    shown = [str(raised.value), repr(raised.value), caplog.text, repr(users.list_users()), repr(table.rows)]
    assert raised.value.__cause__ is None
    assert not [text for text in shown if "hunter2" in text]
    assert users.user("u").password_hash not in repr(users.list_users())


# -- keeping


def test_everything_survives(users: InternalBackend, table: Table) -> None:
    users.add_user("u", "secret", ["management"])
    users.set_user_limits("u", {"max-connections": 3})
    users.put_user("jürgen", password_hash=VECTOR)
    users.set_permissions("u", "/", "a", "b", "c")
    users.set_permissions("u", "other", "", "", "")
    users.set_permissions("jürgen", "/", ".*", ".*", ".*")
    users.set_topic_permissions("u", "/", "amq.topic", "w", "r")
    users.set_topic_permissions("u", "/", "t", "", "")
    again = reopened(table)
    assert state(again, "/", "other") == state(users, "/", "other")
    assert again.authenticate_password("u", "secret")
    assert again.authenticate_password("jürgen", "test12")
    assert again.limits("u") == {"max-connections": 3}


def test_records_are_json_under_readable_keys(users: InternalBackend, table: Table) -> None:
    users.add_user("u", "secret")
    users.set_permissions("u", "/", "a", "b", "c")
    users.set_topic_permissions("u", "/", "t", "w", "r")
    assert sorted(table.rows) == [b"permission//\0u", b"topic_permission//\0u\0t", b"user/u"]
    assert json.loads(table.rows[b"permission//\0u"]) == {
        "user": "u", "vhost": "/", "configure": "a", "write": "b", "read": "c",
    }  # fmt: skip
    assert json.loads(table.rows[b"user/u"])["hashing_algorithm"] == "rabbit_password_hashing_sha256"


def test_nothing_is_left_of_what_is_deleted(users: InternalBackend, table: Table) -> None:
    users.add_user("kept", "secret")
    before, kept = dict(table.rows), state(users, "/", "v")
    users.add_user("u", "secret")
    for vhost in ("/", "v"):
        users.set_permissions("u", vhost, ".*", ".*", ".*")
        users.set_topic_permissions("u", vhost, "t", ".*", ".*")
        users.set_topic_permissions("u", vhost, "t2", ".*", ".*")
    users.delete_user("u")
    assert (table.rows, state(users, "/", "v")) == (before, kept)
    users.add_user("u", "secret")  # the same name again: nothing of the old one's
    assert users.authorize(principal(), "/", None, Resource("vhost", "/")) is False


def test_a_virtual_host_goes_with_its_permissions(users: InternalBackend, table: Table) -> None:
    users.add_user("u", "secret")
    users.set_permissions("u", "/", ".*", ".*", ".*")
    users.set_topic_permissions("u", "/", "t", ".*", ".*")
    before, kept = dict(table.rows), state(users, "/", "v")
    users.set_permissions("u", "v", ".*", ".*", ".*")
    users.set_topic_permissions("u", "v", "t", ".*", ".*")
    users.set_topic_permissions("u", "v", "t2", ".*", ".*")
    users.forget_vhost("v")
    users.forget_vhost("nothing")
    assert (table.rows, state(users, "/", "v")) == (before, kept)
    assert state(reopened(table), "/", "v") == kept


async def test_long_names_in_the_real_store(tmp_path: Path) -> None:
    # LMDB's keys end at 511 bytes; names alike in their first 400 are still two
    names = ["n" * 600 + "1", "n" * 600 + "2", "n"]
    backend = InternalBackend(Auth())
    for run in range(2):
        store = LmdbStore(tmp_path / "store", Store(map_size=1 << 24))
        store.open()
        try:
            backend = InternalBackend(Auth())
            backend.attach(store)
            async with trio.open_nursery() as nursery:
                await nursery.start(store.run)
                if not run:
                    for name in names:
                        backend.add_user(name, "secret")
                        backend.set_permissions(name, "v" * 300, name[-1], "", "")
                        backend.set_topic_permissions(name, "v" * 300, "e" * 300, name[-1], "")
                    done = trio.Event()
                    if not store.after_commit(done.set):
                        with trio.fail_after(10):
                            await done.wait()
                nursery.cancel_scope.cancel()
        finally:
            store.close()
    assert sorted(user.name for user in backend.list_users()) == sorted(names)
    rows = dict(backend.list_permissions("v" * 300))
    assert {name: rows[name].configure for name in names} == {name: name[-1] for name in names}
    assert len(backend.list_topic_permissions("v" * 300)) == 3


# -- hearing of changes


def test_every_change_is_heard(users: InternalBackend) -> None:
    heard: list[int] = []
    events: list[str] = []
    stop = users.on_change(lambda: heard.append(users.revision))
    users.on_event(lambda event, fields: events.append(event))
    changes: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: users.add_user("u", "x"), "user.created"),
        (lambda: users.set_password("u", "y"), "user.password.changed"),
        (lambda: users.set_password_hash("u", VECTOR), "user.password.changed"),
        (lambda: users.clear_password("u"), "user.password.cleared"),
        (lambda: users.set_tags("u", ["management"]), "user.tags.set"),
        (lambda: users.set_user_limits("u", {"max-channels": 1}), "user.limits.set"),
        (lambda: users.set_permissions("u", "/", "", "", ""), "permission.created"),
        (lambda: users.set_topic_permissions("u", "/", "t", "", ""), "topic.permission.created"),
        (lambda: users.clear_topic_permissions("u", "/"), "topic.permission.deleted"),
        (lambda: users.clear_permissions("u", "/"), "permission.deleted"),
        (lambda: users.delete_user("u"), "user.deleted"),
    )
    for change, event in changes:
        revision, count = users.revision, len(heard)
        change()
        assert users.revision > revision
        assert len(heard) > count
        assert events[-1] == event
    assert heard == sorted(set(heard))
    stop()
    stop()
    count = len(heard)
    users.add_user("v", "x")
    assert len(heard) == count


def test_what_changes_nothing_is_not_heard(users: InternalBackend) -> None:
    users.add_user("u", "x")
    revision = users.revision
    users.clear_permissions("u", "/")
    users.clear_topic_permissions("u", "/")
    users.clear_topic_permissions("u", "/", "t")
    users.forget_vhost("v")
    assert users.revision == revision


def test_events_carry_rabbitmqs_fields(users: InternalBackend) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    users.on_event(lambda event, fields: events.append((event, fields)))
    users.add_user("u", "hunter2", ["management"])
    users.set_permissions("u", "/", "a", "b", "c")
    users.set_topic_permissions("u", "/", "t", "w", "r")
    users.set_user_limits("u", {"max-channels": 1})
    users.delete_user("u")
    assert events == [
        ("user.created", {"name": "u"}),
        ("user.tags.set", {"name": "u", "tags": ["management"]}),
        ("permission.created", {"user": "u", "vhost": "/", "configure": "a", "write": "b", "read": "c"}),
        ("topic.permission.created", {"user": "u", "vhost": "/", "exchange": "t", "write": "w", "read": "r"}),
        ("user.limits.set", {"name": "u", "limits": {"max-channels": 1}}),
        ("permission.deleted", {"user": "u", "vhost": "/"}),
        ("topic.permission.deleted", {"user": "u", "vhost": "/", "exchange": "t"}),
        ("user.deleted", {"name": "u"}),
    ]


# -- what they may do


def test_the_triple_per_virtual_host(users: InternalBackend) -> None:
    users.add_user("u", "x")
    users.set_permissions("u", "v", "^c", "^w", "^r")

    def may(permission: Permission, name: str, vhost: str = "v", kind: str = "queue") -> bool | None:
        return users.authorize(principal(), vhost, permission, Resource(kind, name))

    for kind in ("queue", "exchange"):
        assert [may(permission, "c1", kind=kind) for permission in Permission] == [True, False, False]
        assert [may(permission, "w1", kind=kind) for permission in Permission] == [False, True, False]
        assert [may(permission, "r1", kind=kind) for permission in Permission] == [False, False, True]
    assert may(CONFIGURE, "c1", vhost="other") is False
    users.set_permissions("u", "v", "", "", "")
    assert [may(permission, "c1") for permission in Permission] == [False, False, False]


def test_any_row_opens_the_virtual_host(users: InternalBackend) -> None:
    users.add_user("u", "x")

    def may_enter() -> bool | None:
        return users.authorize(principal(), "v", None, Resource("vhost", "v"))

    assert may_enter() is False
    users.set_permissions("u", "v", "", "", "")
    assert may_enter() is True
    users.clear_permissions("u", "v")
    assert may_enter() is False


def test_no_permission_asked_for_is_none_given(users: InternalBackend) -> None:
    users.add_user("u", "x")
    users.set_permissions("u", "v", ".*", ".*", ".*")
    assert users.authorize(principal(), "v", None, Resource("queue", "q")) is False


def test_the_default_exchange_is_amq_default(users: InternalBackend) -> None:
    users.add_user("u", "x")
    users.set_permissions("u", "v", "", r"^amq\.default$", "")
    assert users.authorize(principal(), "v", WRITE, Resource("exchange", "")) is True
    assert users.authorize(principal(), "v", WRITE, Resource("exchange", "amq.default")) is True
    assert users.authorize(principal(), "v", WRITE, Resource("queue", "")) is False
    users.set_permissions("u", "v", "", "", "")
    assert users.authorize(principal(), "v", WRITE, Resource("exchange", "")) is False


def test_topics(users: InternalBackend) -> None:
    users.add_user("u", "x")
    users.set_permissions("u", "v", "", ".*", ".*")

    def may(permission: Permission, key: str | None, exchange: str = "t", **attributes: str) -> bool | None:
        who = principal(attributes=attributes)
        return users.authorize(who, "v", permission, Resource("topic", exchange, key))

    assert may(WRITE, "any") is True  # no row
    users.set_topic_permissions("u", "v", "t", "^{vhost}.{username}.{client_id}$", "")
    assert may(WRITE, "v.u.c", client_id="c") is True
    assert may(WRITE, "v.u.d", client_id="c") is False
    assert may(READ, "any") is False
    assert may(READ, "") is may(READ, None) is True  # "" is ^$
    assert may(WRITE, "any", exchange="other") is True
    # What a backend or a client says of somebody does not change who it is.
    assert may(WRITE, "v.root.c", client_id="c", username="root") is False
    assert may(WRITE, "root.u.c", client_id="c", vhost="root") is False
    users.clear_topic_permissions("u", "v", "t")
    assert may(READ, "any") is True
    users.clear_permissions("u", "v")
    assert may(READ, "any") is False


def test_a_revoked_permission_ends_at_once(users: InternalBackend) -> None:
    users.add_user("u", "x")
    users.set_permissions("u", "v", ".*", ".*", ".*")
    me = principal()
    assert users.authorize(me, "v", READ, Resource("queue", "q")) is True
    users.set_permissions("u", "v", ".*", ".*", "")
    assert users.authorize(me, "v", READ, Resource("queue", "q")) is False
    assert users.authorize(me, "v", WRITE, Resource("queue", "q")) is True
    users.delete_user("u")  # still connected
    for kind in ("queue", "exchange", "topic"):
        assert users.authorize(me, "v", WRITE, Resource(kind, "q", "key")) is False
    assert users.authorize(me, "v", None, Resource("vhost", "v")) is False


def test_somebody_elses_users_are_not_judged(users: InternalBackend) -> None:
    stranger = Principal("stranger", backend="http")
    for resource in (Resource("queue", "q"), Resource("topic", "t", "k")):
        assert users.authorize(stranger, "v", WRITE, resource) is None
    assert users.authorize(stranger, "v", None, Resource("vhost", "v")) is None
    users.put_user("stranger")  # authenticated there, authorized here
    users.set_permissions("stranger", "v", "", ".*", "")
    assert users.authorize(stranger, "v", WRITE, Resource("queue", "q")) is True


def test_limits_of_users_that_are_not_ours(users: InternalBackend) -> None:
    users.add_user("u", "x")
    assert users.limits("u") == users.limits("nobody") == {}
