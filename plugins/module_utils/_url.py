# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""One database, and its translation between Prisma's URL and libpq. Pure: no I/O.

Prisma and libpq share the shape of the URL and not the meaning of its parameters:
C(sslcert) is the server's CA for Prisma and the client's certificate for libpq, and
libpq refuses parameters that only Prisma knows.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

#: Parameters of a URL that mean the same to libpq and go to it unchanged.
LIBPQ_PARAMS = frozenset(
    """application_name channel_binding client_encoding connect_timeout fallback_application_name gssencmode hostaddr
    keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts options passfile
    replication require_auth requiressl service ssl_max_protocol_version ssl_min_protocol_version sslcompression sslcrl
    sslkey sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout""".split()
)
#: Parameters that only Prisma knows; libpq rejects a URL that has them.
PRISMA_PARAMS = frozenset(
    """connection_limit max_connection_lifetime max_idle_connection_lifetime pgbouncer pool_timeout schema
    single_use_connections socket_timeout sslaccept sslcert sslidentity statement_cache_size""".split()
)
_SCHEMES = ("postgresql", "postgres")
#: What a path may hold as it is. node-postgres undoes no encoding of these, so they are not encoded;
#: an @ is, because in a path it is the end of a password with a bare slash, see :func:`parse_url`.
_PATH_SAFE = "=:&+$,;!*'()"
_ENCODE_HINT = "percent-encode the special characters of user and password, where @ is %40, : is %3A, / is %2F, % is %25, # is %23"


@dataclasses.dataclass(frozen=True)
class Target:
    """One database: where it is, how to log in, and which schema holds the ledger.

    ``libpq`` are further libpq parameters, ``prisma`` the URL's parameters as given.
    """

    dbname: str
    host: str = ""
    port: int = 5432
    user: str = ""
    password: str | None = dataclasses.field(default=None, repr=False)
    schema: str = "public"
    libpq: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    prisma: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def pooled(self) -> bool:
        """Whether the URL itself says that a pooler stands in front of the server."""
        return self.prisma.get("pgbouncer", "").lower() == "true"

    def label(self) -> str:
        """``database on host:port`` for messages; holds no secret."""
        return "%s on %s:%d" % (self.dbname, self.host or "local socket", self.port)

    def secrets(self) -> tuple[str, ...]:
        """The password in every form in which a program might print it.

        One or two characters are no secret, and masking them would make any text unreadable.
        """
        forms = set()
        for secret in (self.password, self.libpq.get("sslpassword"), self.prisma.get("sslpassword")):
            if secret and len(secret) > 2:
                forms |= {secret, quote(secret, safe=""), quote(secret), re.sub("%[0-9A-F]{2}", lambda m: m.group().lower(), quote(secret, safe=""))}
        # The longest first, so that no form is left in pieces by a shorter one.
        return tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def conninfo(self, dbname: str | None = None, **extra: str) -> dict[str, t.Any]:
        """libpq parameters as a dict (for psycopg2 or the environment of a program)."""
        params: dict[str, t.Any] = dict(self.libpq)
        params.update(extra)
        params["dbname"] = dbname if dbname is not None else self.dbname
        params["port"] = str(self.port)
        for name, value in (("host", self.host), ("user", self.user), ("password", self.password or "")):
            if value:
                params[name] = value
        return params

    def prisma_url(self, settings: t.Mapping[str, str] | None = None, application_name: str = "") -> str:
        """The URL for Prisma, with server settings in ``options``. Holds the password.

        :param settings: server settings for the session, for example ``lock_timeout``.
        """
        params = dict(self.prisma)
        options = merge_options(params.get("options", ""), settings or {})
        if options:
            params["options"] = options
        if application_name:
            params["application_name"] = application_name
        host, netloc = self.host, self.host
        if not host or host.startswith("/"):
            # Prisma takes a socket directory as a parameter and needs some host before it.
            netloc = "localhost"
            params["host"] = host or "/var/run/postgresql"
        elif ":" in host:
            netloc = "[%s]" % host
        if not params.get("schema"):
            params["schema"] = self.schema
        login = quote(self.user, safe="")
        if self.password is not None:
            login += ":" + quote(self.password, safe="")
        return "postgresql://%s%s:%d/%s?%s" % (
            login + "@" if login else "",
            netloc,
            self.port,
            quote(self.dbname, safe=_PATH_SAFE),
            urlencode(sorted(params.items()), quote_via=quote),
        )


def merge_options(options: str, settings: t.Mapping[str, str]) -> str:
    """libpq's C(options) string with one ``-c name=value`` for each setting added.

    Later ones win on the server, so an operator's own options come first. White space
    and backslashes in a value are escaped as the server expects it.
    """
    added = ["-c %s=%s" % (name, re.sub(r"([\\\s])", r"\\\1", str(value))) for name, value in sorted(settings.items())]
    return " ".join(part for part in [options.strip()] + added if part)


def parse_url(url: str) -> Target:
    """A Prisma URL as :class:`Target`.

    :raises MigrationError: ``URL_INVALID`` or ``URL_NOT_DIRECT``; the message never
        holds a part of the URL that could be a secret.
    """
    url = url.strip()
    if len(url) > 1 and url[0] == url[-1] and url[0] in "\"'":
        url = url[1:-1]
    scheme = url.partition(":")[0].lower()
    if scheme in ("prisma", "prisma+postgres"):
        raise MigrationError("the URL starts with %s://" % scheme, code="URL_NOT_DIRECT")
    if scheme not in _SCHEMES:
        raise MigrationError("the database URL does not start with postgresql://", code="URL_INVALID")
    try:
        parts = urlsplit(url)
        pairs = dict(parse_qsl(parts.query, keep_blank_values=True))
        host, port = parts.hostname or "", parts.port or int(pairs.get("port") or 5432)
        if not 0 < port < 65536:
            raise ValueError
    except ValueError:
        raise MigrationError("the host or the port in the database URL cannot be read", code="URL_INVALID", next_step=_ENCODE_HINT) from None
    if parts.fragment or "#" in url:
        raise MigrationError("the database URL has a bare #", code="URL_INVALID", next_step=_ENCODE_HINT)
    if "@" in parts.path:
        raise MigrationError("the database URL has a bare @ or / where the name of the database stands", code="URL_INVALID", next_step=_ENCODE_HINT)
    dbname = unquote(parts.path[1:]) if len(parts.path) > 1 else "postgres"
    _check_name("database", dbname)
    schema = pairs.get("schema") or "public"
    _check_name("schema", schema)
    host = pairs.get("host") or unquote(host)
    return Target(
        dbname=dbname,
        host=host,
        port=port,
        user=unquote(parts.username or ""),
        password=None if parts.password is None else unquote(parts.password),
        schema=schema,
        libpq=_libpq_params(pairs),
        prisma={name: value for name, value in pairs.items() if name not in ("host", "port")},
    )


def _libpq_params(pairs: t.Mapping[str, str]) -> dict[str, str]:
    params = {name: value for name, value in pairs.items() if name in LIBPQ_PARAMS and name not in PRISMA_PARAMS}
    if pairs.get("sslidentity"):
        raise MigrationError(
            "sslidentity (PKCS 12) has no equal in libpq", code="URL_INVALID", next_step="give the client certificate by ssl_cert and ssl_key"
        )
    if pairs.get("sslcert"):
        params.setdefault("sslrootcert", pairs["sslcert"])
    # Prisma accepts any certificate unless told to be strict; libpq has one word for both.
    if pairs.get("sslaccept") == "strict" and params.get("sslmode", "prefer") in ("prefer", "require"):
        params["sslmode"] = "verify-full"
    return params


def _check_name(kind: str, name: str) -> None:
    size = len(name.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= 63 or "\0" in name:
        raise MigrationError("the %s name has %d bytes; PostgreSQL takes 1 to 63" % (kind, size), code="NAME_UNUSABLE")


def target_from_options(params: t.Mapping[str, t.Any]) -> Target:
    """The target that a module's connection options name.

    :param params: the module's parameters, see ``_argspec.connection_argument_spec``.
    :raises MigrationError: ``CONNECTION_OPTIONS``, ``URL_INVALID``, ...
    """
    if params.get("database_url"):
        target = parse_url(params["database_url"])
    elif params.get("login_db"):
        _check_name("database", params["login_db"])
        target = Target(
            dbname=params["login_db"],
            host=params.get("login_unix_socket") or params.get("login_host") or "",
            port=params.get("login_port") or 5432,
            user=params.get("login_user") or "",
            password=params.get("login_password"),
        )
    else:
        raise MigrationError("neither database_url nor login_db is given", code="CONNECTION_OPTIONS")
    libpq, prisma = dict(target.libpq), dict(target.prisma)
    for option, name in (("ca_cert", "sslrootcert"), ("ssl_cert", "sslcert"), ("ssl_key", "sslkey")):
        if params.get(option):
            libpq[name] = params[option]
    if params.get("ca_cert"):
        prisma.setdefault("sslcert", params["ca_cert"])
    mode = params.get("ssl_mode") or "prefer"
    libpq.setdefault("sslmode", mode)
    if mode in ("verify-ca", "verify-full"):
        # Prisma knows neither word and silently falls back to "prefer".
        prisma.setdefault("sslmode", "require")
        prisma.setdefault("sslaccept", "strict")
    elif mode in ("disable", "require"):
        prisma.setdefault("sslmode", mode)
    libpq.setdefault("connect_timeout", str(params.get("connect_timeout") or 10))
    libpq.update({str(name): str(value) for name, value in (params.get("connect_params") or {}).items()})
    return dataclasses.replace(target, libpq=libpq, prisma=prisma)


__all__ = ("LIBPQ_PARAMS", "PRISMA_PARAMS", "Target", "merge_options", "parse_url", "target_from_options")
