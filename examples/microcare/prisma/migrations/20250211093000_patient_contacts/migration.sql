-- CreateEnum
CREATE TYPE "ContactKind" AS ENUM ('PHONE', 'EMAIL');

-- CreateTable
CREATE TABLE "patient_contacts" (
    "id" SERIAL NOT NULL,
    "patientId" INTEGER NOT NULL,
    "kind" "ContactKind" NOT NULL,
    "value" TEXT NOT NULL,
    "isPrimary" BOOLEAN NOT NULL DEFAULT false,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "patient_contacts_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "patient_contacts_patientId_kind_value_key" ON "patient_contacts"("patientId", "kind", "value");

-- AddForeignKey
ALTER TABLE "patient_contacts" ADD CONSTRAINT "patient_contacts_patientId_fkey" FOREIGN KEY ("patientId") REFERENCES "patients"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Copy the telephone numbers. "patients"."phone" stays until nothing reads it any more.
INSERT INTO "patient_contacts" ("patientId", "kind", "value", "isPrimary", "createdAt")
SELECT "id", 'PHONE', "phone", true, "createdAt"
FROM "patients"
WHERE "phone" IS NOT NULL
ORDER BY "id";
