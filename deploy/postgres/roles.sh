#!/bin/bash
# Runs once, in an empty database: the workers own it, and the friends API only reads.
set -euo pipefail
psql --variable=ON_ERROR_STOP=1 --no-psqlrc --quiet --username=postgres --dbname=postgres \
  --variable=consumers="$(</run/secrets/consumers-password)" \
  --variable=api="$(</run/secrets/api-password)" <<'SQL'
CREATE ROLE consumers LOGIN PASSWORD :'consumers';
CREATE ROLE api LOGIN PASSWORD :'api';
CREATE DATABASE bridge OWNER consumers;
REVOKE ALL ON DATABASE bridge FROM PUBLIC;
GRANT CONNECT ON DATABASE bridge TO api;
\connect bridge
ALTER SCHEMA public OWNER TO consumers;
GRANT USAGE ON SCHEMA public TO api;
ALTER DEFAULT PRIVILEGES FOR ROLE consumers GRANT SELECT ON TABLES TO api;
-- Who only reads writes no large objects either, and has no business in other databases.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
SQL
