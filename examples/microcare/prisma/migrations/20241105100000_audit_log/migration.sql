-- CreateTable
CREATE TABLE "audit_log" (
    "id" BIGSERIAL NOT NULL,
    "tableName" TEXT NOT NULL,
    "rowId" TEXT NOT NULL,
    "action" TEXT NOT NULL,
    "oldRow" JSONB NOT NULL,
    "changedBy" TEXT NOT NULL DEFAULT CURRENT_USER,
    "changedAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "audit_log_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "audit_log_tableName_rowId_idx" ON "audit_log"("tableName", "rowId");

-- CreateFunction
-- Keeps the old version of every changed or deleted row; the log lives in the schema of the table that changed.
CREATE FUNCTION "record_change"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- An UPDATE that changes nothing is not worth a line; everything else is.
    IF TG_OP = 'UPDATE' AND OLD IS NOT DISTINCT FROM NEW THEN
        RETURN NULL;
    END IF;

    EXECUTE format('INSERT INTO %I."audit_log" ("tableName", "rowId", "action", "oldRow") VALUES ($1, $2, $3, $4);', TG_TABLE_SCHEMA)
        USING TG_TABLE_NAME, to_jsonb(OLD) ->> 'id', TG_OP, to_jsonb(OLD);

    RETURN NULL;
END;
$$;

-- CreateTrigger
CREATE TRIGGER "patients_record_change" AFTER UPDATE OR DELETE ON "patients" FOR EACH ROW EXECUTE FUNCTION "record_change"();

-- CreateTrigger
CREATE TRIGGER "medical_records_record_change" AFTER UPDATE OR DELETE ON "medical_records" FOR EACH ROW EXECUTE FUNCTION "record_change"();
