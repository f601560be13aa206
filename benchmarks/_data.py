# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database like a small clinic's: users, appointments, records, messages; made by the server, the same every time.

Every value is a hash of its row's number and a salt, so neither a parallel plan nor a
random generator's state has a say. Keys are random UUIDs and every row has its times, as
in a Prisma schema. Texts are put together from phrases of pronounceable words, so that
they compress about as prose does.
"""

from __future__ import annotations

from typing import Any

#: Rows of each table for one unit, which is about 1 GB (of 10^9 bytes) as a plain dump.
ROWS = {"users": 150_000, "appointments": 1_300_000, "records": 450_000, "messages": 1_550_000}
TABLES = tuple(ROWS)

_HELPERS = """
CREATE SCHEMA made;
CREATE FUNCTION made.n(number bigint, salt int, below bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT (hashint8extended(number, salt) & 9223372036854775807) % below';
CREATE FUNCTION made.id(number bigint, salt int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT md5(salt || ''.'' || number)::uuid';
CREATE FUNCTION made.moment(number bigint, salt int) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT timestamptz '2023-01-01 00:00+00' + made.n(number, salt, 90000000000) * interval '1 millisecond' $$;
CREATE UNLOGGED TABLE made.word AS
    SELECT i, (SELECT string_agg(
                      (ARRAY['ba','den','ro','ti','sul','ma','ver','no','ki','lan','pe','tor','a','is','gre','um'])[1 + made.n(i, 100 + s::int, 16)], '')
                 FROM generate_series(0, made.n(i, 99, 3)) s) AS word FROM generate_series(0, 2047) i;
CREATE UNLOGGED TABLE made.phrase AS
    SELECT g / 7 AS i, string_agg(w.word, ' ' ORDER BY g) AS text
      FROM generate_series(0, 7 * 32768 - 1) g
      JOIN made.word w ON w.i = floor(2048 * pow(made.n(g, 98, 1000000) / 1e6, 2)) GROUP BY 1;
ANALYZE made.word, made.phrase;
"""
TABLES_SQL = """
CREATE TYPE appointment_status AS ENUM ('requested', 'confirmed', 'cancelled', 'completed');
CREATE TABLE users (
    id uuid PRIMARY KEY, email text NOT NULL, full_name text NOT NULL, phone text, settings jsonb NOT NULL,
    created_at timestamptz(3) NOT NULL, updated_at timestamptz(3) NOT NULL
);
CREATE TABLE appointments (
    id uuid PRIMARY KEY, patient_id uuid NOT NULL, doctor_id uuid NOT NULL, status appointment_status NOT NULL, starts_at timestamptz(3) NOT NULL,
    minutes int NOT NULL, fee numeric(10,2) NOT NULL, note text, created_at timestamptz(3) NOT NULL, updated_at timestamptz(3) NOT NULL
);
CREATE TABLE records (
    id uuid PRIMARY KEY, patient_id uuid NOT NULL, appointment_id uuid NOT NULL, kind text NOT NULL, content jsonb NOT NULL, summary text NOT NULL,
    cost numeric(12,2), created_at timestamptz(3) NOT NULL, updated_at timestamptz(3) NOT NULL
);
CREATE TABLE messages (
    id uuid PRIMARY KEY, sender_id uuid NOT NULL, recipient_id uuid NOT NULL, body text NOT NULL, sent_at timestamptz(3) NOT NULL, read_at timestamptz(3)
);
"""
_FILL = {
    "users": """
INSERT INTO users SELECT made.id(g, 1), 'user' || g || '@example.org', initcap(substr(p.text, 1, 20)), '+1555' || lpad(made.n(g, 2, 10000000)::text, 7, '0'),
       jsonb_build_object('language', (ARRAY['en','de','es','vi'])[1 + made.n(g, 3, 4)], 'reminders', made.n(g, 4, 2) = 1, 'height', 150 + made.n(g, 5, 50)),
       made.moment(g, 8), made.moment(g, 9)
  FROM generate_series(1, %(users)s) g JOIN made.phrase p ON p.i = made.n(g, 7, 32768)
""",
    "appointments": """
INSERT INTO appointments SELECT made.id(g, 3), made.id(1 + made.n(g, 11, %(users)s), 1), made.id(1 + made.n(g, 12, 200), 1),
       (enum_range(NULL::appointment_status))[1 + made.n(g, 13, 4)], date_trunc('minute', made.moment(g, 14)), 15 * (1 + made.n(g, 15, 4)),
       made.n(g, 16, 40000) / 100.0, CASE WHEN made.n(g, 17, 3) > 0 THEN p.text END, made.moment(g, 18), made.moment(g, 19)
  FROM generate_series(1, %(appointments)s) g JOIN made.phrase p ON p.i = made.n(g, 10, 32768)
""",
    "records": """
INSERT INTO records SELECT made.id(g, 2), made.id(1 + made.n(g, 21, %(users)s), 1), made.id(1 + made.n(g, 22, %(appointments)s), 3),
       (ARRAY['note','lab','prescription','imaging'])[1 + made.n(g, 23, 4)],
       jsonb_build_object('code', substr(md5(g::text), 1, 8), 'pulse', 50 + made.n(g, 24, 60),
           'pressure', jsonb_build_array(90 + made.n(g, 25, 60), 60 + made.n(g, 26, 40)), 'finding', p.text,
           'values', jsonb_build_array(made.n(g, 27, 100000) / 1000.0, made.n(g, 28, 100000) / 1000.0, made.n(g, 29, 100000) / 1000.0)),
       q.text || '. ' || r.text || '.', made.n(g, 30, 1000000) / 100.0, made.moment(g, 31), made.moment(g, 35)
  FROM generate_series(1, %(records)s) g JOIN made.phrase p ON p.i = made.n(g, 32, 32768) JOIN made.phrase q ON q.i = made.n(g, 33, 32768)
  JOIN made.phrase r ON r.i = made.n(g, 34, 32768)
""",
    "messages": """
INSERT INTO messages SELECT made.id(g, 4), made.id(1 + made.n(g, 41, %(users)s), 1), made.id(1 + made.n(g, 42, %(users)s), 1),
       p.text || CASE made.n(g, 43, 3) WHEN 0 THEN '?' WHEN 1 THEN ', ' || q.text || '.' ELSE ', ' || q.text || '. ' || initcap(p.text) || ' ' || q.text END,
       made.moment(g, 44), CASE WHEN made.n(g, 45, 5) > 0 THEN made.moment(g, 48) END
  FROM generate_series(1, %(messages)s) g JOIN made.phrase p ON p.i = made.n(g, 46, 32768) JOIN made.phrase q ON q.i = made.n(g, 47, 32768)
""",
}
#: With the four primary keys: ten indexes.
KEYS = """
CREATE UNIQUE INDEX users_email ON users (email);
CREATE INDEX appointments_patient ON appointments (patient_id);
CREATE INDEX appointments_starts ON appointments (starts_at);
CREATE INDEX records_patient ON records (patient_id);
CREATE INDEX messages_sender ON messages (sender_id);
CREATE INDEX messages_recipient ON messages (recipient_id, sent_at);
ALTER TABLE appointments ADD FOREIGN KEY (patient_id) REFERENCES users, ADD FOREIGN KEY (doctor_id) REFERENCES users;
ALTER TABLE records ADD FOREIGN KEY (patient_id) REFERENCES users, ADD FOREIGN KEY (appointment_id) REFERENCES appointments;
ALTER TABLE messages ADD FOREIGN KEY (sender_id) REFERENCES users, ADD FOREIGN KEY (recipient_id) REFERENCES users;
CREATE TABLE acked (client int NOT NULL, number int NOT NULL);
"""


def rows_for(plain_bytes: int) -> dict[str, int]:
    """Rows of each table for a database whose plain dump has about so many bytes."""
    # Appointments pick their doctor among the first 200 users.
    return {table: max(200, round(rows * plain_bytes / 1e9)) for table, rows in ROWS.items()}


def fill(conn: Any, plain_bytes: int) -> int:
    """Make the tables in the connected, empty database (autocommit); its size in bytes."""
    counts = rows_for(plain_bytes)
    with conn.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET work_mem = '64MB'; SET client_min_messages = error")
        cursor.execute(_HELPERS + TABLES_SQL)
        for table in TABLES:
            cursor.execute(_FILL[table], counts)
        cursor.execute(KEYS)
        cursor.execute("DROP SCHEMA made CASCADE")
        cursor.execute("VACUUM (ANALYZE, FREEZE)")
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


__all__ = ("KEYS", "TABLES", "TABLES_SQL", "fill", "rows_for")
