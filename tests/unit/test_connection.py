# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._connection import classify_connect_text, code_for_sqlstate, connect, scrub, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import CODES, MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from hypothesis import given
from hypothesis import strategies as st

AT = 'connection to server at "db1" (10.0.0.7), port 5432 failed: '
TARGET = Target(dbname="d", host="h", user="u", password="p@ss w/ord")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (AT + 'FATAL:  database "microcare" does not exist', "DATABASE_MISSING"),
        (AT + 'FATAL:  database "x" does not exist\nDETAIL:  It seems to have just been dropped or renamed.', "DATABASE_MISSING"),
        (AT + 'FATAL:  password authentication failed for user "u"', "AUTH_FAILED"),
        (AT + "fe_sendauth: no password supplied", "AUTH_FAILED"),
        (AT + 'FATAL:  role "u" does not exist', "AUTH_FAILED"),
        (AT + 'FATAL:  role "u" is not permitted to log in', "AUTH_FAILED"),
        (AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "u", database "d", no encryption', "AUTH_FAILED"),
        (AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "u", database "d", SSL off', "AUTH_FAILED"),
        (AT + 'FATAL:  Peer authentication failed for user "u"', "AUTH_FAILED"),
        (AT + "FATAL:  sorry, too many clients already", "TOO_MANY_CONNECTIONS"),
        (AT + "FATAL:  remaining connection slots are reserved for non-replication superuser connections", "TOO_MANY_CONNECTIONS"),
        (AT + 'FATAL:  too many connections for role "u"', "TOO_MANY_CONNECTIONS"),
        (AT + 'FATAL:  permission denied for database "d"\nDETAIL:  User does not have CONNECT privilege.', "PERMISSION_DENIED"),
        (AT + 'FATAL:  database "d" is not currently accepting connections', "PERMISSION_DENIED"),
        (AT + "server does not support SSL, but SSL was required", "TLS_FAILED"),
        (AT + "SSL error: certificate verify failed", "TLS_FAILED"),
        ('root certificate file "/ca.pem" does not exist', "TLS_FAILED"),
        (AT + "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", "SERVER_UNREACHABLE"),
        ('could not translate host name "nowhere.invalid" to address: Name or service not known', "SERVER_UNREACHABLE"),
        (AT + "timeout expired", "SERVER_UNREACHABLE"),
        (AT + "FATAL:  the database system is starting up", "SERVER_UNREACHABLE"),
        ('connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory', "SERVER_UNREACHABLE"),
        ('invalid dsn: invalid connection option "no_such"', "CONNECTION_OPTIONS"),
        ('invalid sslmode value: "encrypted"', "CONNECTION_OPTIONS"),
        ('invalid integer value "x" for connection option "keepalives"', "CONNECTION_OPTIONS"),
        ('could not translate host name "tesslate.invalid" to address: Name or service not known', "SERVER_UNREACHABLE"),
        ('could not translate host name "ssl.invalid" to address: Name or service not known', "SERVER_UNREACHABLE"),
        ('could not open certificate file "/c.pem": No such file or directory', "TLS_FAILED"),
        ('weak sslmode "prefer" may not be used with sslrootcert=system', "TLS_FAILED"),
        (AT + 'FATAL:  invalid value for parameter "lock_timeout": "5 parsecs"', "OPTION_INVALID"),
        (AT + 'FATAL:  unrecognized configuration parameter "ssl timeout expired"', "OPTION_INVALID"),
        ("something else", "SERVER_UNREACHABLE"),
    ],
)
def test_what_a_refused_connection_means(text: str, code: str) -> None:
    assert classify_connect_text(text) == code


def test_a_certificate_in_the_name_of_a_database_is_no_question_of_tls() -> None:
    assert classify_connect_text(AT + 'FATAL:  database "ssl_certificates" does not exist') == "DATABASE_MISSING"


@pytest.mark.parametrize(
    ("sqlstate", "code"),
    [
        ("42501", "PERMISSION_DENIED"),
        ("25006", "NOT_PRIMARY"),
        ("53100", "DISK_FULL"),
        ("55P03", "LOCK_TIMEOUT"),
        ("57014", "STATEMENT_TIMEOUT"),
        ("57P01", "CONNECTION_LOST"),
        ("08006", "CONNECTION_LOST"),
        ("08P01", "CONNECTION_LOST"),
        ("42601", "SQL_ERROR"),
        ("57000", "SQL_ERROR"),
        ("", "SQL_ERROR"),
        (None, "SQL_ERROR"),
    ],
)
def test_what_an_sqlstate_means(sqlstate: str | None, code: str) -> None:
    assert code_for_sqlstate(sqlstate) == code


@given(st.text(max_size=6))
def test_every_sqlstate_has_a_registered_code(sqlstate: str) -> None:
    assert code_for_sqlstate(sqlstate) in CODES
    assert classify_connect_text(sqlstate) in CODES


def raised_as(error: psycopg2.Error, **options: t.Any) -> MigrationError:
    with pytest.raises(MigrationError) as caught, sql_errors("read the ledger", TARGET, **options):
        raise error
    return caught.value


class _Error(psycopg2.OperationalError):
    """psycopg2 sets these in C; a test can only say them in a class of its own."""

    pgcode = "55P03"  # type: ignore[assignment]
    diag = types.SimpleNamespace(message_primary="canceling statement\n due to lock timeout p@ss w/ord p%40ss%20w%2Ford")  # type: ignore[assignment]


def test_an_error_of_the_server_keeps_its_words_and_its_sqlstate() -> None:
    found = raised_as(_Error(), applied=["a"])
    assert (found.code, found.facts) == ("LOCK_TIMEOUT", {"sqlstate": "55P03", "applied": ["a"]})
    assert found.msg == "cannot read the ledger: canceling statement due to lock timeout ******** ********"


@pytest.mark.parametrize(
    ("error", "default", "code"),
    [
        (psycopg2.OperationalError("server closed the connection unexpectedly"), "SQL_ERROR", "CONNECTION_LOST"),
        (psycopg2.InterfaceError("cursor already closed"), "SQL_ERROR", "SQL_ERROR"),
        (psycopg2.ProgrammingError("can't adapt"), "SWAP_FAILED", "SWAP_FAILED"),
    ],
)
def test_an_error_without_an_sqlstate(error: psycopg2.Error, default: str, code: str) -> None:
    assert raised_as(error, default=default).code == code


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), sql_errors("x", TARGET):
        raise ZeroDivisionError


@pytest.mark.parametrize("form", TARGET.secrets())
def test_no_form_of_the_password_is_left_in_a_text(form: str) -> None:
    assert scrub("before %s after" % form, TARGET) == "before ******** after"


@pytest.mark.parametrize(
    ("libpq", "code", "words"),
    [({"connect_timeout": "2"}, "SERVER_UNREACHABLE", "d on 127.0.0.1:1"), ({"no_such_parameter": "1"}, "CONNECTION_OPTIONS", "no_such_parameter")],
)
def test_a_connection_that_is_not_made_says_why_and_no_secret(libpq: dict[str, str], code: str, words: str) -> None:
    target = Target(dbname="d", host="127.0.0.1", port=1, user="u", password="s3cret-word", libpq=libpq)
    with pytest.raises(MigrationError) as caught:
        connect(target)
    assert caught.value.code == code
    assert words in caught.value.msg
    assert "s3cret" not in str(caught.value.result())
