-- Two roles for a PostgreSQL database of lm-search, beside the owner of its tables:
--   search_worker  claims trials and reports results; it cannot delete a study, change a definition or the tables
--   search_reader  only reads: status, report, replay, a read-only dashboard
--
-- Run it as the owner of the tables with the right to create roles, after the first study is planned, and again after
-- each upgrade of lm-search; it repeats nothing. Then give the new roles passwords:
--   psql "$URL" -f roles.sql
--   psql "$URL" -c '\password search_worker' -c '\password search_reader'

DO $$
DECLARE
  of_optuna CONSTANT text[] := ARRAY[
    'studies', 'study_directions', 'study_user_attributes', 'study_system_attributes', 'trials', 'trial_params',
    'trial_values', 'trial_intermediate_values', 'trial_user_attributes', 'trial_system_attributes',
    'trial_heartbeats', 'version_info', 'alembic_version'];
  -- A definition is an attribute of a study, beside the note and the plots that workers publish.
  written CONSTANT text[] := ARRAY['study_user_attributes', 'study_system_attributes', 'trials'];
  of_owner CONSTANT text[] := ARRAY['search_studies', 'search_schema', 'search_alembic_version'];
  each record;
BEGIN
  -- The roles belong to the whole server: another database may have made them.
  BEGIN
    CREATE ROLE search_worker LOGIN;
  EXCEPTION WHEN duplicate_object THEN NULL;
  END;
  BEGIN
    CREATE ROLE search_reader LOGIN;
  EXCEPTION WHEN duplicate_object THEN NULL;
  END;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO search_worker, search_reader', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO search_worker, search_reader', current_schema());
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
  FOR each IN
    SELECT tablename AS name, format('%I.%I', schemaname, tablename) AS place FROM pg_tables
    WHERE schemaname = current_schema() AND (tablename = ANY (of_optuna) OR tablename LIKE 'search\_%')
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, search_worker, search_reader', each.place);
    EXECUTE format('GRANT SELECT ON %s TO search_worker, search_reader', each.place);
    IF each.name = ANY (written) OR (each.name LIKE 'search\_%' AND each.name <> ALL (of_owner)) THEN
      EXECUTE format('GRANT INSERT, UPDATE ON %s TO search_worker', each.place);
    END IF;
    IF each.name LIKE 'trial\_%' OR each.name = 'search_metrics' THEN
      -- What an attempt reported is removed when the trial starts again.
      EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %s TO search_worker', each.place);
    END IF;
    IF each.name = 'studies' THEN
      EXECUTE format('GRANT UPDATE (study_id) ON %s TO search_worker', each.place);  -- to lock a row, for a new trial
    ELSIF each.name IN ('study_system_attributes', 'search_removals') THEN
      -- A longer note replaces a shorter one; a file that is removed is forgotten.
      EXECUTE format('GRANT DELETE ON %s TO search_worker', each.place);
    END IF;
  END LOOP;
  EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO search_worker', current_schema());
END $$;
