# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The parts of a run's line that tell of a way back: done, asked for, or looked at. Pure: no I/O.

What is to be pasted has no quote and no backslash where the names allow it, and is followed
by a blank or by nothing, so that no full stop is pasted with it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._collation import sort_key
from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import effect, source_of
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import View
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_backup import checked as checked_backup
from ansible_collections.pgops.migrations.plugins.module_utils._typed import option
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural, seconds_text

#: Whose rows come and go with the migrations.
_LEDGER = "_prisma_migrations"


def blank(text: str) -> str:
    """The text behind a blank, or nothing."""
    return " " + text if text else ""


def database(view: View) -> str:
    return view.database or "the database"


def restored_id(view: View) -> str:
    return str((view.result("restore").get("restore_point") or {}).get("id") or "")


def hold_option(names: t.Sequence[str]) -> str:
    """The option that holds migrations back."""
    return option("migration_hold", list(names))


def equal(view: View, phase: str = "restore") -> str:
    if view.result(phase).get("comparison") == "same_database":
        return "it is that database itself"
    found = view.result(phase).get("restored") or {}
    if not isinstance(found.get("tables"), int) or not isinstance(found.get("rows"), int):
        return "found equal"
    return "%s, %s equal" % (plural(found["tables"], "table"), plural(found["rows"], "row"))


def restored(view: View) -> str:
    """A restore that was done."""
    result = view.result("restore")
    text = "RESTORED. %s is as in %s: %s" % (database(view), source_of(result), equal(view))
    kept, waited = result.get("kept"), seconds_text((result.get("seconds") or {}).get("unavailable"))
    text += ". The former database is kept as %s" % kept if kept else ""
    text += ". Clients waited %s." % waited if waited else "."
    text += _named(" Applied again: %s.", result.get("redone"))
    text += _named(" No longer applied: %s.", result.get("undone"))
    held = list(view.result("choice").get("hold") or result.get("undone") or ())
    return text + (" The next deploy applies again what was undone, unless it is held back: %s (better in the inventory)" % hold_option(held) if held else "")


def _named(words: str, names: t.Any) -> str:
    return words % ", ".join(str(name) for name in names) if names else ""


def unconfirmed(view: View) -> str:
    """A restore that waits for its confirmation: how much it would lose. Which rows stands in the table of the report."""
    said = str((view.cause() or {}).get("msg") or "").partition("; it will ")[0]
    return "CONFIRMATION_MISSING: %s; %s" % (said or "the restore was not confirmed", amount(view))


def amount(view: View) -> str:
    """How much a restore would lose, in a few words."""
    result = view.result("restore")
    loss = result.get("loss") or {}
    source = source_of(result)
    if not loss.get("known"):
        return "what going back to %s would lose is not known (%s)" % (source, loss.get("reason") or "it was not measured")
    if loss.get("gone"):
        return "%s is not on the server and would come back from %s with %s" % (database(view), source, plural(_number(loss.get("rows_then")), "row"))
    tables = [entry for entry in loss.get("tables") or () if not str(entry.get("table")).endswith("." + _LEDGER)]
    added, changed, removed = (sum(_number(entry.get(word)) for entry in tables) for word in ("added", "changed", "removed"))
    gone = sum(effect(str(text)).endswith("will be gone.") for text in loss.get("objects") or ())
    schema = ", and %s of the schema with what is in it" % plural(gone, "object") if gone else ""
    return "going back to %s would lose %s, replace %d and bring back %d%s" % (source, plural(added, "row"), changed, removed, schema)


def _number(value: t.Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def checked(view: View) -> str:
    """A run in check mode that found no obstacle."""
    done = "check mode, nothing done: "
    if view.state("restore") == "changed":
        loss = view.result("restore").get("loss") or {}
        counts = ""
        if loss.get("gone"):
            return done + amount(view) + _to_do_it(str(view.result("restore").get("confirmation") or ""))
        if isinstance(loss.get("rows_now"), int):
            counts = ", %s now and %s then" % (plural(loss["rows_now"], "row"), plural(loss["rows_then"], "row"))
        text = "%s would be set back to %s%s; %s" % (database(view), source_of(view.result("restore")), counts, amount(view))
        return done + text + _to_do_it(str(view.result("restore").get("confirmation") or ""))
    if view.result("reverse").get("name"):
        return done + _reverse_checked(view)
    if view.result("recovery").get("migrations"):
        return done + _recovery_checked(view)
    words = checked_backup(view)
    if words:
        return words
    names = list(view.result("deploy").get("would_apply") or ())
    if not names:
        return done + "no problem was found"
    listed = ", ".join(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")
    return done + "%s would be applied: %s" % (plural(len(names), "migration"), listed)


def _to_do_it(confirmation: str, more: str = "") -> str:
    options = [more] if more else []
    options += [option("migration_confirm", confirmation)] if confirmation else []
    return ". To do it, run the same without --check and with %s added" % " ".join(options) if options else ""


def _reverse_checked(view: View) -> str:
    reverse = view.result("reverse")
    text = "the reverse migration %s would be written and deployed; it undoes %s" % (reverse["name"], ", ".join(reverse.get("undone") or ()))
    notes = [str(note.get("text")).rstrip(".") for note in reverse.get("notes") or () if isinstance(note, dict) and note.get("text")]
    text += ". It does not bring back or loses: %s" % "; ".join(notes) if notes else "; no rows and no values are concerned"
    text += "" if reverse.get("proved") else ". It is NOT proved on a scratch copy"
    return text + _to_do_it(str(view.result("choice").get("confirmation") or ""))


def _recovery_checked(view: View) -> str:
    found = view.result("recovery")["migrations"][0]
    text = "%s is %s: %s" % (found.get("name"), found.get("state"), str(found.get("reason")).rstrip("."))
    if view.result("resolve").get("migration"):
        text += ". It would be recorded as %s" % str(view.result("resolve").get("resolved_to")).replace("_", " ")
        script = (view.result("resolve").get("script") or {}).get("leads_to")
        if not script:
            return text
        text += ". The script to %s loses: %s" % (script, "; ".join(lost_by_script(view.results)) or "nothing that is known")
        return text + _to_do_it(str(view.result("choice").get("confirmation") or ""), option("migration_run_script", script))
    offered = proved_scripts(view)
    step = recover_step(view)
    text += ". Proved on a copy: the script to %s" % " and the one to ".join(offered) if offered else ". No script is proved"
    return text + (". To do it, run the same without --check and with %s" % step if step else "")


def proved_scripts(view: View) -> list[str]:
    """before (undo) and after (complete), as far as they are there and proved."""
    entries = view.result("recovery").get("migrations")
    scripts = (entries[0].get("scripts") if entries and isinstance(entries[0], dict) else None) or {}
    return [name for name in ("before", "after") if isinstance(scripts.get(name), dict) and scripts[name].get("proved")]


def recover_step(view: View) -> str:
    """The options that run a proved script; empty without one."""
    confirmation = str(view.result("choice").get("confirmation") or "")
    confirm = blank(option("migration_confirm", confirmation)) if confirmation else ""
    words = {"before": "(undoes it)", "after": "(completes it)"}
    return " or ".join("%s%s %s" % (option("migration_run_script", name), confirm, words[name]) for name in proved_scripts(view))


def recovered(view: View) -> str:
    """An unfinished migration that was recorded."""
    resolved = view.result("resolve")
    state = str(resolved.get("resolved_to"))
    reason = (resolved.get("recovery") or {}).get("reason") or ("" if resolved.get("proved") else "without proof")
    step = "deploy the rest" if state == "applied" else "mend what made it fail, then deploy again"
    script = script_of(resolved)
    if not script:
        text = "RECOVERED. %s is recorded as %s%s" % (resolved["migration"], state.replace("_", " "), " (%s)" % str(reason).rstrip(".") if reason else "")
        return "%s. Next: %s." % (text, step)
    text = "RECOVERED. %s was half applied (%s); the script to %s was run, which %s, and it is recorded as %s" % (
        resolved["migration"], str(reason).rstrip("."), script, {"before": "undid its changes of the schema", "after": "completed it"}[script],
        state.replace("_", " "),
    )  # fmt: skip
    lost = lost_by_script(view.results)
    return "%s. The script lost: %s. Next: %s." % (text, "; ".join(lost) or "nothing that is known", step)


def script_of(resolved: t.Mapping[str, t.Any]) -> str:
    """The script that was run, before or after; empty for none."""
    ran = str(resolved.get("script_ran") or "")
    return ran if ran in ("before", "after") else ""


def lost_by_script(results: t.Mapping[str, t.Any]) -> list[str]:
    """What the script that was run has taken away, as texts.

    :param results: the phases' results, or what a record keeps of them.
    """
    resolved = results.get("resolve") or {}
    found = (resolved.get("script") or {}).get("loses")
    if found is None:
        entries = (results.get("recovery") or {}).get("migrations") or [{}]
        found = ((entries[0].get("scripts") or {}).get(script_of(resolved)) or {}).get("loses") or []
    texts = found if isinstance(found, (list, tuple)) else [found]
    return [str(entry.get("text") if isinstance(entry, dict) else entry).rstrip(".") for entry in texts if entry]


def pending_after(view: View, reverse: str) -> str:
    """What a reverse migration has left pending, and what the next deploy must be given for it."""
    waiting = [str(name) for name in view.result("deploy").get("pending") or () if name != reverse]
    if not waiting:
        return ""
    older = [name for name in waiting if sort_key(name) < sort_key(reverse)]
    text = ". Still pending: %s" % ", ".join(waiting)
    if not older:
        return text
    return text + ". Older than the reverse migration, %s out of order now, which a deploy refuses; the next one must be given %s to apply %s" % (
        "they are" if len(older) > 1 else "it is", option("migration_allow", older), "them" if len(older) > 1 else "it",
    )  # fmt: skip


__all__ = (
    "amount", "blank", "checked", "database", "equal", "hold_option", "lost_by_script", "pending_after", "proved_scripts", "recover_step", "recovered",
    "restored", "restored_id", "script_of", "unconfirmed",
)  # fmt: skip
