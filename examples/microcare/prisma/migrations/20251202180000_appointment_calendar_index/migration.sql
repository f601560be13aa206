-- CreateIndex
CREATE INDEX CONCURRENTLY "appointments_clinicianId_startsAt_idx" ON "appointments"("clinicianId", "startsAt");
