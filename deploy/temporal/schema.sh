#!/bin/sh
# Brings Temporal's two databases to the schema of this server version; repeatable.
set -eu

for database in temporal temporal_visibility; do
    directory=${database#temporal_}
    tool() {
        temporal-sql-tool --plugin "$SQL_PLUGIN" --endpoint "$SQL_HOST" --port "$SQL_PORT" \
            --user "$SQL_USER" --database "$database" "$@"
    }
    # Leaves a database that has a later version alone.
    tool setup-schema --version 0.0
    tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/$directory/versioned"
done
