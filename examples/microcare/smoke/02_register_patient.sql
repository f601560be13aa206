-- What registering a patient writes, up to the trigger that keeps old versions. The caller rolls back; only the
-- sequences have moved on then, as sequences do.
DO $$
DECLARE
    account uuid;
    patient int;
    sent bigint;
BEGIN
    INSERT INTO users ("email", "name", "passwordHash", "updatedAt")
    VALUES ('smoke-check@example.invalid', 'Smoke Check', '!', CURRENT_TIMESTAMP)
    RETURNING "id" INTO account;

    INSERT INTO patients ("userId", "fullName", "birthDate", "updatedAt")
    VALUES (account, 'Smoke Check', DATE '1990-01-01', CURRENT_TIMESTAMP)
    RETURNING "id" INTO patient;

    INSERT INTO patient_contacts ("patientId", "kind", "value", "isPrimary") VALUES (patient, 'PHONE', '+351 900000000', true);
    INSERT INTO messages ("patientId", "authorId", "body") VALUES (patient, account, 'Hello') RETURNING "id" INTO sent;

    UPDATE patients SET "city" = 'Lisbon' WHERE "id" = patient;
    IF NOT EXISTS (SELECT FROM audit_log WHERE "tableName" = 'patients' AND "rowId" = patient::text AND "action" = 'UPDATE') THEN
        RAISE EXCEPTION 'the change of patient % left no line in audit_log', patient;
    END IF;

    DELETE FROM messages WHERE "id" = sent;
    DELETE FROM patients WHERE "id" = patient;
    IF EXISTS (SELECT FROM patient_contacts WHERE "patientId" = patient) THEN
        RAISE EXCEPTION 'deleting patient % left contacts behind', patient;
    END IF;
END;
$$;
