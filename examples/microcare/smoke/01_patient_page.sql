-- What the page of a patient reads: every table of the application, joined the way the application joins them.
-- Passes on an empty database too. The caller rolls back.
SELECT
    patient."id", patient."fullName", account."email", contact."value" AS contact,
    visit."startsAt", visit."status", clinician."speciality", record."title", record."notes" -> 'vitals' AS vitals, message."body"
FROM patients AS patient
LEFT JOIN users AS account ON account."id" = patient."userId"
LEFT JOIN patient_contacts AS contact ON contact."patientId" = patient."id" AND contact."isPrimary"
LEFT JOIN appointments AS visit ON visit."patientId" = patient."id"
LEFT JOIN clinicians AS clinician ON clinician."id" = visit."clinicianId"
LEFT JOIN medical_records AS record ON record."appointmentId" = visit."id"
LEFT JOIN messages AS message ON message."appointmentId" = visit."id"
ORDER BY patient."id", visit."startsAt"
LIMIT 50;

DO $$
BEGIN
    IF EXISTS (SELECT FROM appointments WHERE "endsAt" <= "startsAt") THEN
        RAISE EXCEPTION 'an appointment ends before it starts';
    END IF;
    IF EXISTS (SELECT FROM clinicians JOIN users ON users."id" = clinicians."userId" WHERE users."role" <> 'CLINICIAN') THEN
        RAISE EXCEPTION 'a clinician has an account of another role';
    END IF;
END;
$$;
