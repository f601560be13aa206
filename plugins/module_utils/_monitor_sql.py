# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The statements with which a deploy is watched. They read only, and take no lock that a migration could wait for."""

from __future__ import annotations

#: At most so many waiting sessions are asked whom they wait for, and so many of the migrator's locks are read.
MOST_WAITS, MOST_ASKED, MOST_LOCKS = 1000, 100, 500

#: One statement per sample. The migrator is known by the name that its session was given, or by Prisma's lock where its
#: session began after the deploy did. A role without the rights of pg_read_all_stats sees no state of others' sessions
#: (they are counted as hidden), but all of pg_locks.
SAMPLE = """
PREPARE look AS
WITH here AS MATERIALIZED (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
a AS MATERIALIZED (
  SELECT pid, application_name, usename::text AS usename, backend_type, state, xact_start, query_start, backend_start, query
    FROM pg_catalog.pg_stat_activity WHERE datid = (SELECT oid FROM here) AND pid <> pg_catalog.pg_backend_pid()),
l AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks),
at_lock AS MATERIALIZED (
  SELECT pid, granted FROM l WHERE locktype = 'advisory' AND classid = 0 AND objid = %(lock)s AND objsubid = 1 AND database = (SELECT oid FROM here)),
m AS MATERIALIZED (
  SELECT pid, application_name = %(name)s AS named FROM a
   WHERE application_name = %(name)s OR (backend_start >= %(since)s AND pid IN (SELECT pid FROM at_lock WHERE granted))),
others AS MATERIALIZED (SELECT * FROM a WHERE coalesce(backend_type, 'client backend') = 'client backend' AND pid NOT IN (SELECT pid FROM m)),
w AS MATERIALIZED (
  SELECT l.pid, l.locktype, l.mode, l.waitstart, row_number() OVER (ORDER BY l.waitstart) AS place,
         coalesce(l.relation, (SELECT t.relation FROM l t WHERE t.pid = l.pid AND t.locktype = 'tuple' AND t.granted LIMIT 1)) AS relation
    FROM l WHERE NOT l.granted AND l.pid IN (SELECT pid FROM a) AND l.pid NOT IN (SELECT pid FROM at_lock WHERE NOT granted)
   ORDER BY l.waitstart LIMIT %(most_waits)s),
waits AS MATERIALIZED (
  SELECT w.*, CASE WHEN place <= %(most_asked)s OR pid IN (SELECT pid FROM m) THEN pg_catalog.pg_blocking_pids(pid) END AS blockers FROM w),
held AS MATERIALIZED (
  SELECT l.pid, l.relation, l.mode FROM l WHERE l.granted AND l.locktype = 'relation' AND l.pid IN (SELECT pid FROM m)
   ORDER BY l.mode NOT IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock', 'ShareUpdateExclusiveLock') LIMIT %(most_locks)s),
progress AS MATERIALIZED ({progress}),
named AS MATERIALIZED (
  SELECT c.oid, n.nspname || '.' || c.relname AS name, n.nspname IN ('pg_catalog', 'pg_toast', 'information_schema') AS of_system
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid IN (SELECT relation FROM waits UNION ALL SELECT relation FROM held UNION ALL SELECT relid FROM progress))
SELECT pg_catalog.json_build_object(
  'now', extract(epoch FROM pg_catalog.clock_timestamp()),
  'hidden', (SELECT count(*) FROM others WHERE state IS NULL),
  'active', (SELECT count(*) FROM others WHERE state IN ('active', 'fastpath function call')),
  'idle_in_transaction', (SELECT count(*) FROM others WHERE state LIKE 'idle in transaction%%'),
  'waiting', (SELECT count(*) FROM w WHERE pid IN (SELECT pid FROM others)),
  'oldest_transaction', (SELECT extract(epoch FROM pg_catalog.clock_timestamp() - min(xact_start)) FROM others),
  'wal', CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0') END,
  'temp', (SELECT temp_bytes FROM pg_catalog.pg_stat_database WHERE datid = (SELECT oid FROM here)),
  'lag', (SELECT extract(epoch FROM max(replay_lag)) FROM pg_catalog.pg_stat_replication),
  'migrators', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
             a.pid, m.named, extract(epoch FROM a.query_start), extract(epoch FROM a.xact_start), a.state, a.query))
      FROM a JOIN m USING (pid)),
  'waits', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
             w.pid, w.locktype, w.mode, named.name, extract(epoch FROM w.waitstart), w.blockers) ORDER BY w.place)
      FROM waits w LEFT JOIN named ON named.oid = w.relation),
  'sessions', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
             a.pid, a.application_name, a.usename, a.backend_type, a.state, extract(epoch FROM a.query_start),
             extract(epoch FROM a.backend_start), a.pid IN (SELECT pid FROM at_lock)))
      FROM a WHERE a.pid IN (SELECT pid FROM waits UNION ALL SELECT unnest(blockers) FROM waits)),
  'held', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(h.pid, named.name, h.mode))
      FROM held h JOIN named ON named.oid = h.relation AND NOT named.of_system),
  'progress', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
             p.pid, p.command, named.name, p.phase, p.done, p.whole, p.relid::bigint, p.index_relid::bigint))
      FROM progress p LEFT JOIN named ON named.oid = p.relid))::text
"""
PROGRESS = """
  SELECT pid, command, relid, phase, index_relid, CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END AS done,
         CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END AS whole
    FROM pg_catalog.pg_stat_progress_create_index WHERE pid IN (SELECT pid FROM m)
  UNION ALL SELECT pid, command, relid, 'copying', 0, bytes_processed, bytes_total FROM pg_catalog.pg_stat_progress_copy WHERE pid IN (SELECT pid FROM m)
  UNION ALL SELECT pid, command, relid, phase, 0, heap_blks_scanned, heap_blks_total FROM pg_catalog.pg_stat_progress_cluster WHERE pid IN (SELECT pid FROM m)
  UNION ALL SELECT pid, 'VACUUM', relid, phase, 0, heap_blks_scanned, heap_blks_total FROM pg_catalog.pg_stat_progress_vacuum WHERE pid IN (SELECT pid FROM m)
"""
#: For a server whose progress views are not those.
NO_PROGRESS = "SELECT 0 AS pid, '' AS command, 0::oid AS relid, '' AS phase, 0::oid AS index_relid, 0::bigint AS done, 0::bigint AS whole WHERE false"

SIZE = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"
#: What is compared before and after: the files of the tables, and the indexes.
FILES = """
SELECT c.oid::bigint, c.relfilenode::bigint, n.nspname || '.' || c.relname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
INDEXES = """
SELECT i.indexrelid::bigint, i.indrelid::bigint, n.nspname || '.' || x.relname
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
CURRENT = "SELECT migration_name FROM {} WHERE finished_at IS NULL AND rolled_back_at IS NULL ORDER BY started_at DESC LIMIT 1"
#: Only while it is still at the same statement: a cancel that comes late would hit the next one.
CANCEL = """
SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity
 WHERE pid = %s AND state = 'active' AND extract(epoch FROM query_start) = %s
"""

__all__ = ("CANCEL", "CURRENT", "FILES", "INDEXES", "MOST_ASKED", "MOST_LOCKS", "MOST_WAITS", "NO_PROGRESS", "PROGRESS", "SAMPLE", "SIZE")
