#!/bin/bash
# Runs in an empty database, and whenever you ask for it: makes what is missing, gives passwords
# and rights anew. The workers own the database; what others may do there is in rights.sql.
set -euo pipefail
psql --variable=ON_ERROR_STOP=1 --no-psqlrc --quiet --username=postgres --dbname=postgres \
  --variable=postgres="$(</run/secrets/postgres-password)" \
  --variable=consumers="$(</run/secrets/consumers-password)" \
  --variable=api="$(</run/secrets/api-password)" \
  --variable=console="$(</run/secrets/console-password)" \
  --variable=operator="$(</run/secrets/operator-password)" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY['consumers', 'api', 'console', 'operator']) AS name
  WHERE name NOT IN (SELECT rolname FROM pg_roles) \gexec
ALTER ROLE postgres PASSWORD :'postgres';
ALTER ROLE consumers PASSWORD :'consumers';
ALTER ROLE api PASSWORD :'api';
ALTER ROLE console PASSWORD :'console';
ALTER ROLE operator PASSWORD :'operator';
-- Who only looks takes from nobody what the workers need.
SELECT format('ALTER ROLE %I CONNECTION LIMIT 30', name),
  format('ALTER ROLE %I SET temp_file_limit = %L', name, '256MB')
  FROM unnest(ARRAY['api', 'console', 'operator']) AS name \gexec
SELECT 'CREATE DATABASE bridge OWNER consumers'
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'bridge') \gexec
REVOKE ALL ON DATABASE bridge FROM PUBLIC;
GRANT CONNECT ON DATABASE bridge TO api, console, operator;
-- Nobody has business in other databases.
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
\connect bridge
\i /etc/openim-bridge/rights.sql
SQL
