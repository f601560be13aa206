# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import shutil
import subprocess
import typing as t
from urllib.parse import quote, urlsplit

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import LIBPQ_PARAMS, PRISMA_PARAMS, Target, merge_options, parse_url, target_from_options
from hypothesis import example, given
from hypothesis import strategies as st

ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
NAMES = ANY.filter(lambda name: len(name.encode()) <= 63)
HOSTS = st.sampled_from(["localhost", "db1.internal", "10.0.0.7", "::1", "", "/var/run/postgresql"])
AWKWARD = "p@ss:w/ord%é'\"\\ $x#?&=+[]"


@given(NAMES, NAMES, NAMES, ANY, HOSTS, st.integers(1, 65535))
@example('we"ird-db; drop', "public", "a b", AWKWARD, "::1", 1)
@example(" leading and trailing ", "public", "u", " ", "", 5432)
def test_what_is_written_as_a_url_is_read_back(dbname: str, schema: str, user: str, password: str, host: str, port: int) -> None:
    target = Target(dbname=dbname, schema=schema, user=user, password=password, host=host, port=port)
    back = parse_url(target.prisma_url())
    assert (back.dbname, back.schema, back.user, back.password, back.port) == (dbname, schema, user, password, port)
    assert back.host == (host or "/var/run/postgresql")


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js to compare with")
def test_a_url_means_the_same_to_node() -> None:
    """The WHATWG parser of Node.js is what Prisma's driver adapters read the URL with."""
    targets = [Target(dbname=name, host="db1", user=AWKWARD, password=AWKWARD) for name in ("plain", 'we"ird-db; drop', "é ü", "a/b?c#d", "100%", "a=b:c@d")]
    script = """
    const out = JSON.parse(require('fs').readFileSync(0)).map(u => { const x = new URL(u);
      return [decodeURIComponent(x.username), decodeURIComponent(x.password), x.hostname, decodeURIComponent(x.pathname.slice(1)), x.searchParams.get('schema')] })
    console.log(JSON.stringify(out))"""
    done = subprocess.run(["node", "-e", script], input=json.dumps([target.prisma_url() for target in targets]), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[target.user, target.password, target.host, target.dbname, "public"] for target in targets]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h/d", {"host": "h", "port": 5432, "user": "u", "password": "p", "dbname": "d", "schema": "public"}),
        ("postgres://u:p@h:6000/d?schema=app", {"port": 6000, "schema": "app"}),
        ("POSTGRESQL://u@h/d", {"user": "u", "password": None}),
        ("postgresql://u:@h/d", {"password": ""}),
        ("postgresql://h", {"dbname": "postgres", "user": ""}),
        ("postgresql://u:p@h/", {"dbname": "postgres"}),
        ('"postgresql://u:p@h/d"', {"dbname": "d"}),
        ("  'postgresql://u:p@h/d'\n", {"dbname": "d"}),
        ("postgresql://u:p@[::1]:5433/d", {"host": "::1", "port": 5433}),
        ("postgresql://u%40x:p%2F%3A@h/a%20b", {"user": "u@x", "password": "p/:", "dbname": "a b"}),
        ("postgresql://u:p@localhost/d?host=/run/pg", {"host": "/run/pg"}),
        ("postgresql://u:p@localhost/d?host=/run/pg&port=6001", {"host": "/run/pg", "port": 6001}),
        ("postgresql://u:p@h/d?schema=", {"schema": "public"}),
        ("postgresql://u:p@h/d?pgbouncer=true", {"pooled": True}),
        ("postgresql://u:p@h/d?pgbouncer=false", {"pooled": False}),
    ],
)
def test_parts_of_a_url(url: str, expected: dict[str, t.Any]) -> None:
    target = parse_url(url)
    assert {name: getattr(target, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("query", "libpq"),
    [
        ("sslmode=require", {"sslmode": "require"}),
        ("sslmode=require&sslaccept=strict", {"sslmode": "verify-full"}),
        ("sslaccept=strict", {"sslmode": "verify-full"}),
        ("sslmode=disable&sslaccept=strict", {"sslmode": "disable"}),
        ("sslaccept=accept_invalid_certs", {}),
        ("sslcert=ca.pem", {"sslrootcert": "ca.pem"}),
        ("sslcert=ca.pem&sslrootcert=other.pem", {"sslrootcert": "other.pem"}),
        ("connect_timeout=7&application_name=x&options=-c%20a%3Db", {"connect_timeout": "7", "application_name": "x", "options": "-c a=b"}),
        ("schema=app&connection_limit=1&pool_timeout=2&socket_timeout=3&statement_cache_size=0&pgbouncer=true&unheard_of=1", {}),
    ],
)
def test_libpq_gets_only_what_it_knows_and_in_its_own_meaning(query: str, libpq: dict[str, str]) -> None:
    target = parse_url("postgresql://u:p@h/d?" + query)
    assert target.libpq == libpq
    # What Prisma is given is what its URL said, whatever libpq needs.
    assert all(pair.split("=")[0] in target.prisma for pair in query.split("&"))


def test_no_parameter_has_two_meanings() -> None:
    assert frozenset() == LIBPQ_PARAMS & PRISMA_PARAMS
    assert "sslcert" in PRISMA_PARAMS  # the server's CA for Prisma, the client's certificate for libpq


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("mysql://u:s3cret@h/d", "URL_INVALID"),
        ("s3cret", "URL_INVALID"),
        ("", "URL_INVALID"),
        ("postgresql://u:s3cret@h:x/d", "URL_INVALID"),
        ("postgresql://u:s3cret@h:99999/d", "URL_INVALID"),
        ("postgresql://u:s3#cret@h/d", "URL_INVALID"),
        ("postgresql://u:s3cret@[::1/d", "URL_INVALID"),
        ("postgresql://u:s3/cret@h/d", "URL_INVALID"),
        ("postgresql://u:55/s3cret@h:5432/d", "URL_INVALID"),
        ("postgresql://u:s3cret@h/d?port=s3cret", "URL_INVALID"),
        ("postgresql://u:s3cret@h/d?sslidentity=x", "URL_INVALID"),
        ("prisma://x/?api_key=s3cret", "URL_NOT_DIRECT"),
        ("prisma+postgres://x/?api_key=s3cret", "URL_NOT_DIRECT"),
        ("postgresql://u:s3cret@h/" + "d" * 64, "NAME_UNUSABLE"),
        ("postgresql://u:s3cret@h/" + quote("ü" * 32), "NAME_UNUSABLE"),
        ("postgresql://u:s3cret@h/a%00b", "NAME_UNUSABLE"),
        ("postgresql://u:s3cret@h/d?schema=" + "s" * 64, "NAME_UNUSABLE"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str, code: str) -> None:
    with pytest.raises(MigrationError) as caught:
        parse_url(url)
    assert caught.value.code == code
    assert "cret" not in str(caught.value.result())


@given(st.text(max_size=60))
@example("postgresql://[")
@example("postgresql://u:p@h:1:2/d")
@example("postgresql://h/%ff")
@example("postgresql://h/d?port=-1")
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for url in (text, "postgresql://" + text):
        try:
            target = parse_url(url)
        except MigrationError as error:
            assert error.code in ("URL_INVALID", "URL_NOT_DIRECT", "NAME_UNUSABLE")
        else:
            assert 0 < target.port < 65536


SECRETS = ANY.filter(lambda secret: len(secret) > 2)


@given(SECRETS)
@example(AWKWARD)
def test_the_password_is_in_no_text_about_the_target(password: str) -> None:
    target = Target(dbname="0", host="0", user="0", password=password, prisma={"sslpassword": password}, libpq={"sslpassword": password})
    shown = repr(target) + target.label()
    bare = repr(Target(dbname="0", host="0", user="0")) + target.label()
    assert shown == bare


@given(SECRETS)
def test_every_form_of_the_password_counts_as_a_secret(password: str) -> None:
    target = Target(dbname="d", host="h", user="u", password=password)
    login = urlsplit(target.prisma_url()).netloc.rpartition("@")[0].partition(":")[2]
    assert {password, login, re.sub("%..", lambda escape: escape.group().lower(), login)} <= set(target.secrets())
    lengths = [len(form) for form in target.secrets()]
    assert lengths == sorted(lengths, reverse=True)  # or masking a short form would spoil a longer one


def test_parameters_for_libpq() -> None:
    target = parse_url("postgresql://u:p@h:6000/d?sslmode=require&schema=app")
    assert target.conninfo() == {"host": "h", "port": "6000", "user": "u", "password": "p", "dbname": "d", "sslmode": "require"}
    assert target.conninfo("postgres", application_name="x") == {**target.conninfo(), "dbname": "postgres", "application_name": "x"}
    assert parse_url("postgresql:///d").conninfo() == {"port": "5432", "dbname": "d"}


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ("", {}, ""),
        ("", {"lock_timeout": "5s"}, "-c lock_timeout=5s"),
        (" -c a=1 ", {"z": "2", "b": "x y"}, "-c a=1 -c b=x\\ y -c z=2"),
        ("", {"a": "back\\slash"}, "-c a=back\\\\slash"),
    ],
)
def test_server_settings_are_appended_so_that_they_win(options: str, settings: dict[str, str], expected: str) -> None:
    assert merge_options(options, settings) == expected


def test_settings_and_the_name_of_the_run_go_into_the_url() -> None:
    url = parse_url("postgresql://u:p@h/d?options=-c%20a%3D1&connection_limit=1").prisma_url({"lock_timeout": "5s"}, "run 1")
    back = parse_url(url)
    assert back.prisma == {"options": "-c a=1 -c lock_timeout=5s", "application_name": "run 1", "connection_limit": "1", "schema": "public"}


def options(**given: t.Any) -> dict[str, t.Any]:
    """A module's parameters, with the defaults that Ansible fills in."""
    return {**{name: option.get("default") for name, option in connection_argument_spec().items()}, **given}


@pytest.mark.parametrize(
    ("given", "libpq", "prisma"),
    [
        ({}, {"sslmode": "prefer"}, {}),
        ({"ssl_mode": "require"}, {"sslmode": "require"}, {"sslmode": "require"}),
        ({"ssl_mode": "disable"}, {"sslmode": "disable"}, {"sslmode": "disable"}),
        ({"ssl_mode": "verify-full"}, {"sslmode": "verify-full"}, {"sslmode": "require", "sslaccept": "strict"}),
        (
            {"ssl_mode": "verify-ca", "ca_cert": "/ca"},
            {"sslmode": "verify-ca", "sslrootcert": "/ca"},
            {"sslmode": "require", "sslaccept": "strict", "sslcert": "/ca"},
        ),
        ({"ssl_cert": "/c", "ssl_key": "/k"}, {"sslmode": "prefer", "sslcert": "/c", "sslkey": "/k"}, {}),
        ({"connect_params": {"keepalives": 1, "sslmode": "require"}}, {"sslmode": "require", "keepalives": "1"}, {}),
    ],
)
def test_encryption_that_is_demanded_reaches_both_libpq_and_prisma(given: dict[str, t.Any], libpq: dict[str, str], prisma: dict[str, str]) -> None:
    target = target_from_options(options(login_db="d", login_host="h", login_user="u", login_password="p", **given))
    assert target.libpq == {"connect_timeout": "10", **libpq}
    assert target.prisma == prisma


def test_the_url_wins_over_the_mode_option_and_connect_params_over_all() -> None:
    target = target_from_options(
        options(database_url="postgresql://u:p@h/d?sslmode=require&connect_timeout=3", ssl_mode="disable", connect_params={"connect_timeout": 4})
    )
    assert target.libpq == {"sslmode": "require", "connect_timeout": "4"}
    assert target.prisma["sslmode"] == "require"


@pytest.mark.parametrize(("given", "host"), [({"login_host": "h"}, "h"), ({"login_unix_socket": "/run", "login_host": "h"}, "/run"), ({}, "")])
def test_where_the_server_is(given: dict[str, str], host: str) -> None:
    assert target_from_options(options(login_db="d", **given)).host == host


@pytest.mark.parametrize(
    ("given", "code"), [({}, "CONNECTION_OPTIONS"), ({"database_url": ""}, "CONNECTION_OPTIONS"), ({"login_db": "d" * 64}, "NAME_UNUSABLE")]
)
def test_options_that_name_no_database_are_refused(given: dict[str, str], code: str) -> None:
    with pytest.raises(MigrationError) as caught:
        target_from_options(options(**given))
    assert caught.value.code == code
