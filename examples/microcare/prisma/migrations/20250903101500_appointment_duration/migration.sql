-- AlterTable
ALTER TABLE "appointments" ADD COLUMN     "durationMinutes" INTEGER;

-- Backfill
UPDATE "appointments" SET "durationMinutes" = ROUND(EXTRACT(EPOCH FROM "endsAt" - "startsAt") / 60);

-- AlterTable
ALTER TABLE "appointments" ALTER COLUMN "durationMinutes" SET NOT NULL;
