-- What friends API, console and the commands for people may do with the tables, which the workers
-- own. To be run by a superuser in the database, again after each change: those tables that are
-- there get their rights at once, and others when a worker makes them.
SET client_min_messages = warning;
-- The workers could put functions of their own where a superuser would find them first.
SET search_path = pg_catalog, pg_temp;
ALTER SCHEMA public OWNER TO consumers;
GRANT USAGE ON SCHEMA public TO api, console, operator;
ALTER DEFAULT PRIVILEGES FOR ROLE consumers REVOKE ALL ON TABLES FROM api, console, operator;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM api, console, operator;
-- Who may not write to tables writes no large objects either.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;

CREATE SCHEMA IF NOT EXISTS rights;
GRANT USAGE ON SCHEMA rights TO consumers;

CREATE OR REPLACE PROCEDURE rights.give() LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  each record;
BEGIN
  FOR each IN
    SELECT wanted.* FROM (VALUES
      ('api', 'friend_relations', 'SELECT'),
      ('api', 'friend_verification_messages', 'SELECT'),
      ('console', 'friend_verification_messages', 'SELECT'),
      ('console', 'paused_subscriptions', 'SELECT, INSERT, DELETE'),
      ('console', 'console_audit', 'SELECT, INSERT'),
      ('console', 'dead_letter_audit', 'INSERT'),
      ('operator', 'friend_relations', 'SELECT'),
      ('operator', 'friend_verification_messages', 'SELECT'),
      ('operator', 'paused_subscriptions', 'SELECT, INSERT, DELETE'),
      ('operator', 'console_audit', 'SELECT, INSERT'),
      ('operator', 'dead_letter_audit', 'SELECT, INSERT'),
      ('operator', 'archived_messages', 'SELECT, DELETE'),
      ('operator', 'message_revocations', 'SELECT'),
      ('operator', 'message_erasures', 'SELECT, INSERT')
    ) AS wanted (who, name, rights)
    JOIN pg_catalog.pg_tables ON schemaname = 'public' AND tablename = name
  LOOP
    EXECUTE format('GRANT %s ON public.%I TO %I', each.rights, each.name, each.who);
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION rights.given() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  CALL rights.give();
END $$;

DROP EVENT TRIGGER IF EXISTS rights_given;
CREATE EVENT TRIGGER rights_given ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
  EXECUTE FUNCTION rights.given();
CALL rights.give();
