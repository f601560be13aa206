# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a passed rehearsal certifies, and whether that is about the database as it is now. Pure: no I/O.

The certificate's own digest finds a file that was damaged or edited by mistake. Who can rewrite the file can also make its digest
anew; only a signature helps against that, see ``_certificate_file``.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural, seconds_text

FORMAT = 1
#: The state that is certified: for exactly this one the rehearsal says something. As ``_rehearsal_state.state_of`` reads it.
STATE = ("database", "system_identifier", "server_major", "schema", "set_digest", "migrations", "ledger_head", "schema_digest")
#: In place of a certificate: why the file cannot be used.
UNREADABLE = "unreadable"
#: The clock of one host may be set back a little between two runs.
_CLOCK = datetime.timedelta(seconds=60)
_DAY = 86400.0
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,), "database": (str,), "system_identifier": (str,), "server_major": (int,), "schema": (str,), "set_digest": (str,),
    "migrations": (list,), "ledger_head": (str, type(None)), "schema_digest": (str,), "schema_digest_after": (str,), "source": (str,),
    "restore_point": (str,), "options": (dict,), "budgets": (dict,), "measured": (dict,), "issued_at": (str,), "run_id": (str,), "sha256": (str,),
}  # fmt: skip


def build(
    state: t.Mapping[str, t.Any],
    *,
    schema_digest_after: str,
    source: str,
    restore_point: str,
    options: t.Mapping[str, t.Any],
    budgets: t.Mapping[str, t.Any],
    measured: t.Mapping[str, t.Any],
    issued_at: str,
    run_id: str,
) -> dict[str, t.Any]:
    """A certificate, with its digest.

    :param state: what was rehearsed, with the names of :data:`STATE`. ``measured``: see ``_rehearsal_judge.measured``.
    :param issued_at: UTC, to the second, as ISO 8601 with a Z.
    """
    content = {name: state[name] for name in STATE}
    content.update(
        format=FORMAT, schema_digest_after=schema_digest_after, source=source, restore_point=restore_point, options=options, budgets=budgets, measured=measured,
        issued_at=issued_at, run_id=run_id,
    )  # fmt: skip
    found = json.loads(_canonical(content))
    return validated(dict(found, sha256=digest(found)))


def _canonical(content: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest(certificate: t.Mapping[str, t.Any]) -> str:
    """SHA-256 over everything in it but the digest itself."""
    return hashlib.sha256(_canonical({name: value for name, value in certificate.items() if name != "sha256"})).hexdigest()


def to_json(certificate: t.Mapping[str, t.Any]) -> bytes:
    """The certificate as the content of its file."""
    return (json.dumps(validated(certificate), indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def from_json(text: bytes) -> dict[str, t.Any]:
    """The certificate in the content of a file.

    :raises MigrationError: ``CERTIFICATE_INVALID``.
    """
    try:
        found = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _invalid("it is cut off or no JSON") from None
    return validated(found)


def validated(found: t.Any) -> dict[str, t.Any]:
    """:raises MigrationError: ``CERTIFICATE_INVALID``, also where its digest says that it was changed."""
    if not isinstance(found, dict):
        raise _invalid("it is no object")
    if found.get("format") != FORMAT:
        raise _invalid("it has format %r, and this version reads format %d" % (found.get("format"), FORMAT))
    if set(found) != set(_FIELDS):
        raise _invalid("these fields are missing or too many: %s" % ", ".join(sorted(set(found) ^ set(_FIELDS))))
    wrong = [name for name, kinds in sorted(_FIELDS.items()) if not isinstance(found[name], kinds) or isinstance(found[name], bool)]
    if wrong or not all(isinstance(name, str) for name in found["migrations"]):
        raise _invalid("a field has a value of the wrong type: %s" % (wrong[0] if wrong else "migrations"))
    try:
        same = found["sha256"] == digest(found)
    except (ValueError, RecursionError):
        # JSON can write numbers that are none.
        same = False
    if not same:
        raise _invalid("it was changed after it was written: its digest is wrong")
    issued(found)
    return found


def issued(certificate: t.Mapping[str, t.Any]) -> datetime.datetime:
    """When it was issued."""
    try:
        return datetime.datetime.strptime(certificate["issued_at"], _TIME).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise _invalid("issued_at is no time: %s" % certificate["issued_at"]) from None


def age_days(certificate: t.Mapping[str, t.Any], now: datetime.datetime) -> float:
    return (now - issued(certificate)).total_seconds() / _DAY


def refuse_uncertified(found: t.Mapping[str, t.Any] | None, now: datetime.datetime, state: t.Mapping[str, t.Any], max_days: float) -> None:
    """Refuse where the certificate is none for this state at this time.

    :param found: the certificate as ``_certificate_file.read`` gives it: None without one, and with ``UNREADABLE`` where it is damaged.
    :raises MigrationError: ``CERTIFICATE_MISSING``, ``CERTIFICATE_INVALID``, ``CERTIFICATE_MISMATCH``, ``CERTIFICATE_STALE``.
    """
    what = "the %s of %s" % (plural(len(state["migrations"]), "pending migration"), state["database"])
    if found is None:
        raise MigrationError("there is no certificate of a rehearsal for %s" % what, code="CERTIFICATE_MISSING")
    if UNREADABLE in found:
        raise _invalid(str(found[UNREADABLE]))
    words = "the certificate of %s (run %s)" % (found["issued_at"], found["run_id"] or "without a name")
    # What it is about comes first: an old certificate for something else is not made good by its date.
    wrong = mismatches(found, state)
    if wrong:
        said = "%s is not for %s as it is now. Other than rehearsed: %s" % (words, state["database"], "; ".join(each["text"] for each in wrong))
        raise MigrationError(said, code="CERTIFICATE_MISMATCH", mismatches=wrong)
    if now - issued(found) < -_CLOCK:
        raise MigrationError(
            "%s is dated in the future: it is %s now" % (words, now.astimezone(datetime.timezone.utc).strftime(_TIME)),
            code="CERTIFICATE_STALE",
            next_step="set the clock of the target's host right, then rehearse again: ansible-playbook playbooks/rehearse.yml -e migration_targets=HOST",
        )
    age = age_days(found, now)
    if age > max_days:
        old = "%.1f days" % age if age >= 2 else seconds_text(age * _DAY)
        raise MigrationError("%s is %s old, and %g days are allowed" % (words, old, max_days), code="CERTIFICATE_STALE")


def mismatches(certificate: t.Mapping[str, t.Any], state: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """In what the certificate is about another state: C(name), C(rehearsed), C(now), C(text) each."""
    found = []
    for name in STATE:
        then, now = certificate[name], state[name]
        if then != now:
            found.append({"name": name, "rehearsed": then, "now": now, "text": _said(name, then, now)})
    return found


def _said(name: str, then: t.Any, now: t.Any) -> str:
    if name == "migrations":
        return "the pending migrations (%s)" % _moved(list(then), list(now))
    words = {
        "set_digest": "the migration set", "schema_digest": "the schema of the database", "ledger_head": "the head of the ledger", "database": "the database",
        "system_identifier": "the system identifier of the server", "server_major": "the major version of the server", "schema": "the schema that is migrated",
    }[name]  # fmt: skip
    if name in ("set_digest", "schema_digest"):
        # In full they stand in the result.
        then, now = str(then)[:12], str(now)[:12]
    return "%s (rehearsed %s, now %s)" % (words, "none" if then is None else then, "none" if now is None else now)


def _moved(then: list[str], now: list[str]) -> str:
    """How the list of the pending migrations changed, a few words."""
    new, gone = [name for name in now if name not in then], [name for name in then if name not in now]
    parts = []
    if new:
        parts.append("not rehearsed: %s" % _some(new))
    if gone:
        parts.append("rehearsed and no longer pending: %s" % _some(gone))
    return "; ".join(parts) or "in another order"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")


def _invalid(why: str) -> MigrationError:
    return MigrationError("the certificate cannot be used: %s" % why, code="CERTIFICATE_INVALID")


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError("%s is not JSON" % name)


__all__ = ("FORMAT", "STATE", "UNREADABLE", "age_days", "build", "digest", "from_json", "issued", "mismatches", "refuse_uncertified", "to_json", "validated")
