-- The week of a clinician, as the calendar asks for it. The caller rolls back.
SELECT visit."startsAt", visit."endsAt", visit."status", patient."fullName"
FROM appointments AS visit
JOIN patients AS patient ON patient."id" = visit."patientId"
WHERE visit."clinicianId" = (SELECT min("id") FROM clinicians)
    AND visit."startsAt" >= TIMESTAMP '2025-05-19'
    AND visit."startsAt" < TIMESTAMP '2025-05-26'
    AND visit."status" <> 'CANCELLED'
ORDER BY visit."startsAt";
