-- What the application may do. The role has to exist; its name comes from a setting:
--
--     SET microcare.app_role = 'microcare_app';
--     (this file, as one script, by the role that runs the migrations)
--
-- Running it twice changes nothing more. The ledger is left to the migrations: the application may read it only.
DO $$
DECLARE
    app text := current_setting('microcare.app_role');
    home text := current_schema();
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), app);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', home, app);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I', home, app);
    EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO %I', home, app);

    -- The same for the tables and sequences of migrations to come.
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', home, app);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE ON SEQUENCES TO %I', home, app);

    IF to_regclass(format('%I._prisma_migrations', home)) IS NOT NULL THEN
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %I._prisma_migrations FROM %I', home, app);
    END IF;
END;
$$;
