#!/bin/bash
# Runs once, when the database cluster is made: Switchyard's roles and database, Temporal's role and databases.
# Passwords reach psql as variables, never as text of a statement.
set -euo pipefail

psql --username postgres --no-psqlrc --set ON_ERROR_STOP=1 \
    --set owner="$DATABASE_OWNER_PASSWORD" \
    --set app="$DATABASE_APP_PASSWORD" \
    --set platform="$DATABASE_PLATFORM_PASSWORD" \
    --set temporal="$TEMPORAL_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE switchyard_owner LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD :'owner';
CREATE ROLE switchyard_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD :'app';
CREATE ROLE switchyard_platform LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD :'platform';
CREATE DATABASE switchyard OWNER switchyard_owner;
REVOKE ALL ON DATABASE switchyard FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE switchyard TO switchyard_owner, switchyard_app, switchyard_platform;

CREATE ROLE temporal LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD :'temporal';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
REVOKE ALL ON DATABASE temporal, temporal_visibility FROM PUBLIC;
\connect temporal_visibility
-- Temporal's visibility schema uses it, and its own role may not install it.
CREATE EXTENSION IF NOT EXISTS btree_gin;
SQL
