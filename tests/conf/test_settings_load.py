"""The file, over it the environment, over that the flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.registries import installed

from leveret.conf.declare import DeclarationError, declared, seconds, setting
from leveret.conf.load import Declarations, SettingsError, merge_reloadable
from leveret.conf.load import load as load_settings
from leveret.conf.reference import all_sections
from leveret.conf.settings import Settings
from leveret.plugins.loader import declarations_of

BUILT_IN = declarations_of(installed())
ROWS = {row.key: row for section in all_sections(BUILT_IN) for row in section.rows}


def load(
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    owned: Declarations = BUILT_IN,
    **more: str,
) -> Settings:
    return load_settings(file, environ, flags, owned, **more)


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "leveret.toml"
    file.write_text(text)
    return file


def problems_of(
    file: Path | None = None, environ: dict[str, str] | None = None, **flags: Any
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(file, environ or {}, {key.replace("__", "."): value for key, value in flags.items()})
    return caught.value.problems


def test_nothing_given_is_the_defaults() -> None:
    assert load_settings(None, {}, {}) == Settings()
    assert load(None, {}, {}).auth == Settings().auth


def test_flags_go_over_environment_over_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[listeners]\namqp = 1\nbacklog = 7\nbind = '::1'\n")
    environ = {"LEVERET_AMQP": "2", "LEVERET_BIND": "::"}
    settings = load(file, environ, {"listeners.amqp": "3", "listeners.bind": None})
    assert (settings.listeners.ports["amqp"], settings.listeners.bind, settings.listeners.backlog) == (
        3,
        "::",
        7,
    )


def test_full_environment_names_work_for_every_setting() -> None:
    texts = {
        bool: "true",
        int: "30",
        float: "0.5",
        str: "x",
        Path: "/x",
        tuple: "a, b",
        dict: '{"v": "a, b"}',
    }
    also = dict.fromkeys(("store.x", "auth.a", "auth.b", "plugins.a", "plugins.b"), lambda: None)
    owned = replace(BUILT_IN, sections={**BUILT_IN.sections, **also})
    for row in ROWS.values():
        text = "100000" if row.kind is int and (row.minimum or 0) > 30 else texts[row.kind]
        text = {"store.map_size": "64 MiB", "store.max_pending_bytes": "2 MiB"}.get(row.key, text)
        text = row.choices[-1] if row.choices else text  # not the default
        needs = {
            "tls.verify_peer": {"LEVERET_TLS_CAFILE": "x"},
            "tls.fail_if_no_peer_cert": {"LEVERET_TLS_CAFILE": "x", "LEVERET_TLS_VERIFY_PEER": "1"},
        }.get(row.key, {})
        if row.section == "listeners" and row.name.endswith("s"):
            needs = {"LEVERET_TLS_CERTFILE": "x"}
        if row.kind is bool and row.default is True:
            text = "false"
        if row.unit == "bytes" and "packet" in row.name:
            text = "2048"
        if row.name in ("outbox_bytes", "window_bytes"):
            text = "128KiB"
        items = row.choices[-1:] or ("a", "b")
        if row.check is not None:
            text, items = text.replace("a, b", "10.0.0.0/8"), ("10.0.0.0/8",)
        settings = load(None, {row.environment_names[-1]: text, **needs}, {}, owned)
        section = (
            settings.owned[row.section] if row.section in settings.owned else getattr(settings, row.section)
        )
        value = settings.listeners.ports[row.name] if row in BUILT_IN.ports else getattr(section, row.name)
        expected = {bool: not row.default, Path: Path("/x"), tuple: items, dict: {"v": items}}.get(
            row.kind, value
        )
        assert value == expected
        assert value != row.default or row.choices, row.key


def test_short_environment_name_wins_over_full_one() -> None:
    for environ in (
        {"LEVERET_AMQP": "1", "LEVERET_LISTENERS_AMQP": "2"},
        {"LEVERET_LISTENERS_AMQP": "2", "LEVERET_AMQP": "1"},
    ):
        assert load(None, environ, {}).listeners.ports["amqp"] == 1


def test_container_variables_of_rabbitmq_are_honoured_below_ours() -> None:
    environ = {"RABBITMQ_DEFAULT_USER": "a", "RABBITMQ_DEFAULT_PASS": "b", "RABBITMQ_NODENAME": "ignored"}
    auth = load(None, environ, {}).auth
    assert (auth.default_user, auth.default_pass) == ("a", "b")
    assert load(None, {**environ, "LEVERET_AUTH_DEFAULT_USER": "c"}, {}).auth.default_user == "c"


def test_other_environment_variables_are_left_alone() -> None:
    assert load(None, {"PATH": "/bin", "LEVERET_CONFIG": "x.toml"}, {}) == load(None, {}, {})


def test_door_can_be_switched_off() -> None:
    assert load(None, {"LEVERET_AMQP": "off"}, {}).listeners.ports["amqp"] is None
    assert load(None, {}, {"listeners.amqp": "off"}).listeners.ports["amqp"] is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5000", 5000),
        ("64 KiB", 65536),
        ("64k", 64000),
        ("1.5MB", 1_500_000),
        ("1GiB", 1 << 30),
        ("2Mi", 2 << 20),
    ],
)
def test_bytes_may_have_a_unit(text: str, value: int) -> None:
    assert load(None, {"LEVERET_LIMITS_DISK_FREE_LIMIT": text}, {}).limits.disk_free_limit == value


def test_data_dir_becomes_absolute() -> None:
    assert load(None, {}, {"server.data_dir": "here"}).server.data_dir == Path.cwd() / "here"
    assert load(None, {}, {"server.data_dir": "~/x"}).server.data_dir == Path.home() / "x"


def test_all_mistakes_are_found_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [listener]
        [amqp]
        frame_maximum = 1
        frame_max = 17
        heartbeat_s = "soon"
        product = 4
        [tls]
        verify_peer = 1
        [plugins]
        enabled = [1]
        [log]
        level = "loud"
        """,
    )
    found = problems_of(file, {"LEVERET_AMQP_": "1", "LEVERET_BACKLOG": "2"}, listeners__amqp="70000")
    assert found == (
        f"{file}: there is no section [listener]; did you mean listeners?",
        f"{file}: there is no setting amqp.frame_maximum; did you mean frame_max?",
        "LEVERET_AMQP_: there is no such setting; did you mean LEVERET_AMQP?",
        "LEVERET_BACKLOG: there is no such setting; did you mean LEVERET_LISTENERS_BACKLOG?",
        f"{file}: amqp.frame_max must be between 4096 and 2147483647, not 17.",
        f"{file}: amqp.heartbeat_s must be a whole number, not 'soon'.",
        f"{file}: amqp.product must be text, not 4.",
        f"{file}: tls.verify_peer must be true or false, not 1.",
        f"{file}: plugins.enabled must be a list of strings, not [1].",
        f"{file}: log.level must be one of debug, info, warning, error, critical, not 'loud'.",
        "--amqp must be between 0 and 65535, not 70000.",
    )


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"LEVERET_AMQP": "yes"}, "LEVERET_AMQP must be a whole number or \"off\", not 'yes'."),
        ({"LEVERET_AMQP_HEARTBEAT_S": "1.5"}, "LEVERET_AMQP_HEARTBEAT_S must be a whole number, not '1.5'."),
        ({"LEVERET_TLS_VERIFY_PEER": "maybe"}, "LEVERET_TLS_VERIFY_PEER must be true or false, not 'maybe'."),
        ({"LEVERET_AMQP_LOGIN_FAILURE_DELAY_S": "-1"}, "LEVERET_AMQP_LOGIN_FAILURE_DELAY_S must be at least 0, not -1.0."),
        ({"LEVERET_AMQP_LOGIN_FAILURE_DELAY_S": "inf"}, "LEVERET_AMQP_LOGIN_FAILURE_DELAY_S must be a number, not 'inf'."),
        (
            {"LEVERET_LIMITS_DISK_FREE_LIMIT": "much"},
            'LEVERET_LIMITS_DISK_FREE_LIMIT must be a whole number of bytes, or text like "64 MiB", not \'much\'.',
        ),
        ({"LEVERET_DATA_DIR": ""}, "LEVERET_DATA_DIR must name a directory."),
        ({"LEVERET_AMQPS": "0"}, "LEVERET_AMQPS opens a TLS listener, but tls.certfile names no certificate."),
        ({"LEVERET_TLS_VERIFY_PEER": "1"}, "LEVERET_TLS_VERIFY_PEER needs tls.cafile: the authorities to trust."),
        (
            {"LEVERET_AUTH_MECHANISMS": "PLAIN,PLANE"},
            "LEVERET_AUTH_MECHANISMS may have PLAIN, AMQPLAIN, EXTERNAL, ANONYMOUS, not 'PLANE'.",
        ),
        ({"LEVERET_AUTH_BACKENDS": ""}, "LEVERET_AUTH_BACKENDS is empty: nobody could log in."),
    ],
)  # fmt: skip
def test_wrong_values_are_one_sentence(environ: dict[str, str], problem: str) -> None:
    assert problems_of(environ=environ) == (problem,)


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert problems_of(missing) == (f"{missing} cannot be read: No such file or directory.",)
    (broken,) = problems_of(write(tmp_path, "[listeners\n"))
    assert "is not TOML" in broken
    assert "\n" not in broken
    file = write(tmp_path, "amqp = 5672\n")
    assert problems_of(file) == (f"{file}: amqp must be a section, [amqp].",)


def test_password_is_neither_in_messages_nor_in_repr(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, "[auth]\ndefault_pass = 73\n"))
    assert "73" not in problem.removeprefix(str(tmp_path))
    assert "hush" not in repr(load(None, {"LEVERET_AUTH_DEFAULT_PASS": "hush"}, {}))


def test_reload_takes_what_may_change_and_names_the_rest() -> None:
    running = load(None, {"LEVERET_AMQP": "1"}, {})
    loaded = load(None, {"LEVERET_AMQP": "2", "LEVERET_LOG_LEVEL": "debug", "LEVERET_LOG_FORMAT": "json"}, {})
    reload = merge_reloadable(running, loaded)
    assert reload.changed == ("log.level",)
    assert reload.needs_restart == ("listeners.amqp", "log.format")
    assert (
        reload.settings.log.level,
        reload.settings.log.format,
        reload.settings.listeners.ports["amqp"],
    ) == (
        "debug",
        "text",
        1,
    )


def test_settings_that_reload_are_these() -> None:
    reloadable = {key for key, declared in ROWS.items() if declared.is_reloadable}
    assert {
        "log.level", "tls.certfile", "limits.memory_high_watermark", "limits.disk_free_limit", "limits.consumer_timeout_ms",
    } <= reloadable  # fmt: skip
    assert not {"server.data_dir", "listeners.amqp", "store.engine", "auth.default_pass"} & reloadable


# -- what others declare


def _check_key(key: str) -> None:
    if len(key) < 4:
        raise ValueError("must be at least four characters")


@dataclass(frozen=True, slots=True)
class Directory:
    """Users of a directory."""

    url: str = setting("ldap://localhost", "the directory")
    key: str = setting("", "the key", check=_check_key, secret=True)
    timeout_s: float = seconds(5.0, "how long an answer may take", reloadable=True)
    groups: Mapping[str, tuple[str, ...]] = setting({}, "groups of a virtual host")


@dataclass(frozen=True, slots=True)
class Shovel:
    """A shovel."""

    rate: int = setting(1, "messages a second", minimum=0, former="plugins.mover.rate")


def owners(types: Mapping[str, type | None], imported: list[str] | None = None) -> Declarations:
    """Sections by their names, with __ for dots; `imported` is told which are looked at."""

    def owner(name: str, declaration: type | None) -> Callable[[], type | None]:
        def load_it() -> type | None:
            if imported is not None:
                imported.append(name)
            if declaration is int:
                raise DeclarationError(f"the owner of {name} cannot be loaded")
            return declaration

        return load_it

    names = {name.replace("__", "."): made for name, made in types.items()}
    return Declarations(
        {name: owner(name, made) for name, made in names.items()}, tuple(n for n in names if "." not in n)
    )


NEEDED: dict[str, type | None] = {
    "auth__internal": None, "store__lmdb": None, "plugins__webhooks": None, "plugins__tracing": None,
}  # fmt: skip
INSTALLED: dict[str, type | None] = NEEDED | {
    "auth__ldap": Directory, "plugins__shovel": Shovel, "kafka": Shovel, "exchanges__x_own": Shovel,
}  # fmt: skip


def test_an_owner_declares_a_section_and_reads_it_typed(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [auth]
        backends = ["ldap", "internal"]
        [auth.ldap]
        key = "file"
        groups = {v = ["a", "b"]}
        [plugins.shovel]
        rate = 5
        """,
    )
    environ = {"LEVERET_AUTH_LDAP_KEY": "environment", "LEVERET_KAFKA_RATE": "7"}
    loaded = load(file, environ, {}, owners(INSTALLED))
    directory = loaded.section("auth.ldap", Directory)
    assert directory == Directory(key="environment", groups={"v": ("a", "b")})
    assert loaded.section("plugins.shovel", Shovel).rate == 5
    assert loaded.section("kafka", Shovel).rate == 7
    assert loaded.section("exchanges.x_own", Shovel) == Shovel()
    assert "environment" not in repr(loaded)


def test_only_owners_that_the_configuration_names_are_imported(tmp_path: Path) -> None:
    always = ["kafka", "auth.internal", "store.lmdb", "plugins.tracing", "plugins.webhooks"]
    imported: list[str] = []
    load(None, {}, {}, owners(INSTALLED, imported))
    assert imported == always
    for name, environ, text in (
        ("auth.ldap", {"LEVERET_AUTH_LDAP_KEY": "long enough"}, ""),
        ("plugins.shovel", {}, "[plugins.shovel]"),
        ("plugins.shovel", {"LEVERET_PLUGINS_ENABLED": "shovel,tracing,webhooks"}, ""),
        ("exchanges.x_own", {}, "[exchanges.x_own]"),
    ):
        imported.clear()
        load(write(tmp_path, text), environ, {}, owners(INSTALLED, imported))
        assert sorted(imported) == sorted([*always, name])


def test_mistakes_in_the_sections_of_others_are_found_with_all_others(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [auth]
        backends = ["ldap", "ldapp"]
        [auth.ldap]
        urll = "x"
        timeout_s = "soon"
        groups = {v = 1}
        [auth.lddap]
        [plugins.shovel]
        rate = -1
        [kafka]
        rate = true
        """,
    )
    installed = owners(INSTALLED | {"plugins__broken": int})
    environ = {"LEVERET_PLUGINS_SHOVEL_SPEED": "1", "LEVERET_PLUGINS_ENABLED": "broken,x_own"}
    with pytest.raises(SettingsError) as caught:
        load(file, environ, {}, installed)
    assert caught.value.problems == (
        f"{file}: there is no setting auth.ldap.urll; did you mean url?",
        f"{file}: there is no section [auth.lddap]; did you mean auth.ldap?",
        "LEVERET_PLUGINS_SHOVEL_SPEED: there is no such setting; did you mean LEVERET_PLUGINS_SHOVEL_RATE?",
        f"{file}: auth.ldap.timeout_s must be a number, not 'soon'.",
        f"{file}: auth.ldap.groups must be a list of strings, not 1.",
        f"{file}: plugins.shovel.rate must be at least 0, not -1.",
        f"{file}: kafka.rate must be a whole number, not True.",
        f"{file}: auth.backends names 'ldapp', which is not installed; did you mean ldap?",
        "the owner of plugins.broken cannot be loaded.",
        "auth.ldap.key must be at least four characters.",
    )


def test_what_is_named_and_not_installed_is_told() -> None:
    environ = {"LEVERET_STORE_ENGINE": "cloud", "LEVERET_PLUGINS_ENABLED": "shovl"}
    with pytest.raises(SettingsError) as caught:
        load(None, environ, {}, owners(INSTALLED))
    assert caught.value.problems == (
        "LEVERET_STORE_ENGINE names 'cloud', which is not installed.",
        "LEVERET_PLUGINS_ENABLED names 'shovl', which is not installed; did you mean shovel?",
    )


def test_a_former_key_goes_on_working(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Moved:
        rate: int = setting(1, "messages a second", former="amqp.rate")

    file = write(tmp_path, "[amqp]\nrate = 2\n")
    for environ, rate in (({}, 2), ({"LEVERET_AMQP_RATE": "3"}, 3), ({"LEVERET_KAFKA_RATE": "4"}, 4)):
        assert load(file, environ, {}, owners({"kafka": Moved} | NEEDED)).section("kafka", Moved).rate == rate


def test_one_section_can_be_loaded_alone(tmp_path: Path) -> None:
    file = write(tmp_path, "[nonsense]\n[amqp]\nframe_max = 1\n[server]\ncluster_name = 'c'\n")
    environ = {"LEVERET_NONSENSE": "1", "LEVERET_SERVER_NODE_NAME": "n", "LEVERET_AMQP": "x"}
    server = load(file, environ, {}, only="server").server
    assert (server.cluster_name, server.node_name) == ("c", "n")


def test_reload_of_sections_that_others_declare() -> None:
    installed = owners(INSTALLED)
    running = load(None, {"LEVERET_KAFKA_RATE": "1"}, {}, installed)
    environ = {
        "LEVERET_KAFKA_RATE": "2",
        "LEVERET_AUTH_LDAP_KEY": "long enough",
        "LEVERET_AUTH_LDAP_TIMEOUT_S": "9",
    }
    reload = merge_reloadable(running, load(None, environ, {}, installed))
    assert reload.changed == ("auth.ldap.timeout_s",)
    assert reload.needs_restart == ("kafka.rate", "auth.ldap.key")
    assert reload.settings.section("kafka", Shovel).rate == 1
    assert reload.settings.section("auth.ldap", Directory) == Directory(timeout_s=9.0)


@pytest.mark.parametrize(
    ("hint", "complaint"),
    [(dict, "with a type that no setting can have"), ("Nowhere", "cannot be told: name 'Nowhere'")],
)
def test_what_cannot_be_declared(hint: Any, complaint: str) -> None:
    made = make_dataclass("Made", [("x", hint, setting(1, "something"))], frozen=True)
    with pytest.raises(DeclarationError, match=complaint):
        declared("made", made)
    with pytest.raises(DeclarationError, match="is not a dataclass"):
        declared("made", int)
