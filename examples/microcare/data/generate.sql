-- Made-up data for a MicroCare database at 20250520074500_role_without_guest: six migrations deployed, four to come.
--
--     SET microcare.rows = 200000;   -- rows in all tables together, at least 100
--     (this file, as one script; plain SQL, no client commands)
--
-- Of `rows`: 30 % appointments, 25 % messages, 15 % medical_records, 10 % patients, about 8.5 % patient_contacts,
-- 8.4 % users, 0.3 % clinicians, and audit_log takes what is missing, so that the total is exact.
--
-- The same number of rows gives the same data every time: values come from hashing row numbers, dates count from fixed
-- days, nothing asks the clock or random(). All tables must be empty. All of it happens in the caller's transaction, or
-- in one of its own when the file is sent as one message.

-- A number in [0, below) that depends on the row and on what it is for.
CREATE OR REPLACE FUNCTION pg_temp.pick(row_number bigint, purpose text, below bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT (hashint8extended(row_number, hashtext(purpose)) & 9223372036854775807) % below $$;

CREATE OR REPLACE FUNCTION pg_temp.one_of(choices text[], row_number bigint, purpose text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT choices[1 + (hashint8extended(row_number, hashtext(purpose)) & 9223372036854775807) % cardinality(choices)] $$;

-- Compiling these statements takes longer than running them.
SELECT set_config('jit', 'off', true);

CREATE TEMPORARY TABLE plan AS
SELECT
    wanted.rows AS rows,
    GREATEST(3, wanted.rows * 3 / 1000) AS clinicians,
    GREATEST(1, wanted.rows / 1000) AS admins,
    wanted.rows / 10 AS patients,
    wanted.rows * 3 / 10 AS appointments,
    wanted.rows * 15 / 100 AS records,
    wanted.rows / 4 AS messages
FROM (SELECT current_setting('microcare.rows')::int AS rows) AS wanted;

DO $$
BEGIN
    IF (SELECT rows FROM plan) < 100 THEN
        RAISE EXCEPTION 'microcare.rows is %; it has to be 100 or more', (SELECT rows FROM plan);
    END IF;
    IF to_regclass('patient_contacts') IS NULL
        OR NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'patients'::regclass AND attname = 'phone' AND NOT attisdropped)
        OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'appointments'::regclass AND attname = 'durationMinutes')
    THEN
        RAISE EXCEPTION 'this data fits the schema of 20250520074500_role_without_guest, and the database is at another migration';
    END IF;
    IF EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM patients) OR EXISTS (SELECT FROM audit_log) THEN
        RAISE EXCEPTION 'there is data already; generate into an empty database';
    END IF;
END;
$$;

-- Patients 1, 6, 11, ... have no account. About one in three hundred people has one name only; patient 7 always has.
CREATE TEMPORARY TABLE person AS
SELECT
    n,
    CASE
        WHEN n = 7 OR pg_temp.pick(n, 'mononym', 300) = 0
            THEN pg_temp.one_of('{Suharto,Teller,Madhubala,Björk,Pelé,Xochitl}', n, 'only name')
        ELSE pg_temp.one_of('{Ana,Zoë,Łukasz,Maria,Noah,Emma,Liam,Aisha,Mohammed,Chen,Yuki,Ivan,Olga,Peter,Ingrid,Søren,Chloé,José,Fatima,David,Sarah,Thomas,Nora,Elif,Kofi,Priya,Arjun,Mei,Hanna,Jean-Luc}', n, 'first name')
            || ' ' ||
            pg_temp.one_of('{Müller,Smith,García,O''Brien,de Souza,Nguyen,Kowalski,Ivanova,Schmidt,Rossi,van den Berg,Andersson,Yılmaz,Okafor,Patel,Tanaka,Novák,Dubois,Jensen,Costa,Haddad,Kim,Lindqvist,Moreau,Weber,Silva,Papadopoulos,Horvat,Brown,Wilson}', n, 'last name')
    END AS name,
    TIMESTAMP(3) '2019-03-01' + pg_temp.pick(n, 'joined', 2270) * INTERVAL '1 day' + pg_temp.pick(n, 'joined at', 86400000) * INTERVAL '1 millisecond' AS joined,
    CASE WHEN n % 5 <> 1 THEN md5('patient user ' || n)::uuid END AS account
FROM plan, generate_series(1, plan.patients) AS n;

INSERT INTO users ("id", "email", "name", "passwordHash", "role", "lastLoginAt", "createdAt", "updatedAt")
SELECT
    account, 'patient' || n || '@example.com', name, '$argon2id$v=19$m=65536,t=3,p=4$' || md5('salt ' || n) || '$' || md5('password ' || n),
    'PATIENT',
    CASE WHEN pg_temp.pick(n, 'never logged in', 4) > 0 THEN joined + pg_temp.pick(n, 'login', 700) * INTERVAL '17 hours' END,
    joined, joined + pg_temp.pick(n, 'updated', 90) * INTERVAL '1 day'
FROM person
WHERE account IS NOT NULL
ORDER BY n;

INSERT INTO users ("id", "email", "name", "passwordHash", "role", "lastLoginAt", "createdAt", "updatedAt")
SELECT
    md5('clinician user ' || n)::uuid, 'clinician' || n || '@microcare.example', 'Dr. ' || namesake.name, '$argon2id$v=19$m=65536,t=3,p=4$' || md5('staff salt ' || n) || '$' || md5('staff password ' || n),
    'CLINICIAN', TIMESTAMP '2025-05-19' - pg_temp.pick(n, 'staff login', 96) * INTERVAL '1 hour',
    TIMESTAMP '2019-01-07', TIMESTAMP '2019-01-07' + pg_temp.pick(n, 'staff updated', 2000) * INTERVAL '1 day'
FROM plan
CROSS JOIN LATERAL generate_series(1, plan.clinicians) AS n
JOIN (SELECT n AS number, name FROM person) AS namesake ON namesake.number = 1 + n % 97 % plan.patients;

INSERT INTO users ("id", "email", "name", "passwordHash", "role", "createdAt", "updatedAt")
SELECT md5('admin user ' || n)::uuid, 'admin' || n || '@microcare.example', 'Office ' || n, '!', 'ADMIN', TIMESTAMP '2019-01-01', TIMESTAMP '2019-01-01'
FROM plan, generate_series(1, plan.admins) AS n;

INSERT INTO clinicians ("id", "userId", "speciality", "licenceNumber", "createdAt")
SELECT
    n, md5('clinician user ' || n)::uuid,
    pg_temp.one_of('{General practice,General practice,General practice,Paediatrics,Dermatology,Cardiology,Physiotherapy,Psychiatry,Midwifery}', n, 'speciality'),
    'LIC-' || lpad(n::text, 7, '0'), TIMESTAMP '2019-01-07'
FROM plan, generate_series(1, plan.clinicians) AS n;

-- Nobody has given one patient in nine a medical record number yet. Where there is one, it is unique.
INSERT INTO patients ("id", "userId", "medicalRecordNumber", "fullName", "birthDate", "city", "phone", "createdAt", "updatedAt")
SELECT
    n, account,
    CASE WHEN pg_temp.pick(n, 'mrn', 9) > 0 THEN 'MRN-' || to_char(joined, 'YYYY') || '-' || lpad(n::text, 8, '0') END,
    name,
    DATE '1930-01-01' + (pg_temp.pick(n, 'birth', 17000) + pg_temp.pick(n, 'younger', 17000))::int,
    CASE WHEN pg_temp.pick(n, 'city known', 12) > 0 THEN pg_temp.one_of('{Lisbon,Kraków,Utrecht,Graz,Malmö,Lyon,Porto,Cork,Ghent,Turku}', n, 'city') END,
    CASE WHEN pg_temp.pick(n, 'phone known', 20) >= 6 THEN '+351 9' || lpad(pg_temp.pick(n, 'phone', 100000000)::text, 8, '0') END,
    joined, joined + pg_temp.pick(n, 'updated', 90) * INTERVAL '1 day'
FROM person
ORDER BY n;

-- What 20250211093000_patient_contacts copied, and the e-mail addresses some people have added since.
INSERT INTO patient_contacts ("patientId", "kind", "value", "isPrimary", "createdAt")
SELECT "id", 'PHONE', "phone", true, "createdAt" FROM patients WHERE "phone" IS NOT NULL ORDER BY "id";

INSERT INTO patient_contacts ("patientId", "kind", "value", "isPrimary", "createdAt")
SELECT n, 'EMAIL', 'patient' || n || '@example.com', false, joined + INTERVAL '2 days'
FROM person
WHERE pg_temp.pick(n, 'e-mail contact', 20) < 3
ORDER BY n;

-- Some patients come often, most seldom; most visits last 15 to 60 minutes and start on a quarter of an hour.
INSERT INTO appointments ("id", "patientId", "clinicianId", "status", "startsAt", "endsAt", "reason", "createdAt")
SELECT
    n, patient, clinician,
    (CASE
        WHEN starts > TIMESTAMP '2025-05-20' THEN CASE WHEN lot < 92 THEN 'SCHEDULED' ELSE 'CANCELLED' END
        WHEN lot < 84 THEN 'COMPLETED'
        WHEN lot < 95 THEN 'CANCELLED'
        ELSE 'NO_SHOW'
    END)::"AppointmentStatus",
    starts, starts + (15 * (1 + pg_temp.pick(n, 'length', 4))) * INTERVAL '1 minute',
    pg_temp.one_of('{Check-up,Check-up,Follow-up,Follow-up,Vaccination,Back pain,Skin rash,Blood test,Prescription,NULL,NULL}', n, 'reason'),
    starts - (1 + pg_temp.pick(n, 'booked', 60)) * INTERVAL '1 day'
FROM (
    SELECT
        n,
        pg_temp.pick(n, 'lot', 100) AS lot,
        1 + (plan.patients - 1) * pg_temp.pick(n, 'patient', 1000000) / 1000000 * pg_temp.pick(n, 'often', 1000000) / 1000000 AS patient,
        1 + pg_temp.pick(n, 'clinician', plan.clinicians) AS clinician,
        TIMESTAMP(3) '2020-01-06 08:00' + pg_temp.pick(n, 'day', 2000) * INTERVAL '1 day' + pg_temp.pick(n, 'slot', 40) * INTERVAL '15 minutes' AS starts
    FROM plan, generate_series(1, plan.appointments) AS n
) AS visit
ORDER BY n;

-- Record n belongs to appointment 2n, and repeats its patient, clinician and day; one in ten stands alone.
INSERT INTO medical_records ("id", "patientId", "clinicianId", "appointmentId", "title", "notes", "recordedAt")
SELECT
    md5('record ' || n)::uuid, visit."patientId", visit."clinicianId",
    CASE WHEN pg_temp.pick(n, 'stands alone', 10) > 0 THEN visit."id" END,
    pg_temp.one_of('{Consultation,Consultation,Laboratory result,Prescription,Referral,Vaccination}', n, 'title'),
    jsonb_build_object(
        'vitals', jsonb_build_object('pulse', 52 + pg_temp.pick(n, 'pulse', 60), 'temperature', round(36 + pg_temp.pick(n, 'fever', 30) / 10.0, 1)),
        'tags', to_jsonb(ARRAY[pg_temp.one_of('{routine,urgent,chronic}', n, 'tag'), pg_temp.one_of('{adult,child}', n, 'age tag')]),
        'text', pg_temp.one_of('{No findings.,"Improving; see again in two weeks.","Says: \"it hurts when I laugh\".",Ærlig talt bra.,100 % recovered}', n, 'note')
    ) || CASE WHEN pg_temp.pick(n, 'allergic', 8) = 0 THEN '{"allergies": ["penicillin"], "checked": null}'::jsonb ELSE '{}' END,
    visit."endsAt"
FROM plan, generate_series(1, plan.records) AS n
JOIN appointments AS visit ON visit."id" = 2 * n
ORDER BY n;

-- Half of the messages are about an appointment, four in ten are written by the patient, one in forty was never finished.
INSERT INTO messages ("id", "patientId", "authorId", "appointmentId", "body", "sentAt", "readAt")
SELECT
    n, patient,
    CASE WHEN pg_temp.pick(n, 'by patient', 10) < 4 THEN account ELSE md5('clinician user ' || 1 + pg_temp.pick(n, 'author', clinicians))::uuid END,
    CASE WHEN n % 2 = 0 THEN visit END,
    CASE WHEN pg_temp.pick(n, 'draft', 40) = 0 THEN ''
        ELSE repeat(pg_temp.one_of('{"Thank you, see you then. ","Could we move this to the afternoon? ","Please bring your insurance card. ","Your results are here. "}', n, 'body'), 1 + pg_temp.pick(n, 'wordy', 4)::int)
    END,
    sent,
    CASE WHEN pg_temp.pick(n, 'read', 5) > 0 THEN sent + pg_temp.pick(n, 'read after', 4000) * INTERVAL '1 minute' END
FROM (
    SELECT
        n, plan.clinicians, visit."id" AS visit, visit."patientId" AS patient,
        visit."createdAt" + pg_temp.pick(n, 'sent', 1440) * INTERVAL '1 minute' AS sent
    FROM plan, generate_series(1, plan.messages) AS n
    JOIN appointments AS visit ON visit."id" = n
) AS message
JOIN (SELECT n AS number, account FROM person) AS writer ON writer.number = message.patient
ORDER BY n;

-- Old versions of patients, as the trigger writes them; as many as are missing in the total.
INSERT INTO audit_log ("tableName", "rowId", "action", "oldRow", "changedBy", "changedAt")
SELECT
    'patients', patient."id"::text, 'UPDATE', to_jsonb(patient) || jsonb_build_object('city', pg_temp.one_of('{Braga,Leiden,Linz}', n, 'old city')),
    'microcare_app', patient."updatedAt"
FROM plan
CROSS JOIN LATERAL (
    SELECT plan.rows - plan.patients - plan.clinicians - plan.appointments - plan.records - plan.messages
        - (SELECT count(*) FROM users) - (SELECT count(*) FROM patient_contacts) AS rows
) AS missing
CROSS JOIN LATERAL generate_series(1, missing.rows) AS n
JOIN patients AS patient ON patient."id" = 1 + n % plan.patients
ORDER BY n;

-- Ids were chosen here in four tables; their sequences have to go on from there.
SELECT setval(pg_get_serial_sequence('patients', 'id'), (SELECT max("id") FROM patients));
SELECT setval(pg_get_serial_sequence('clinicians', 'id'), (SELECT max("id") FROM clinicians));
SELECT setval(pg_get_serial_sequence('appointments', 'id'), (SELECT max("id") FROM appointments));
SELECT setval(pg_get_serial_sequence('messages', 'id'), (SELECT max("id") FROM messages));

DROP TABLE person, plan;
DROP FUNCTION pg_temp.pick(bigint, text, bigint), pg_temp.one_of(text[], bigint, text);
ANALYZE users, patients, patient_contacts, clinicians, appointments, medical_records, messages, audit_log;
