#!/bin/sh
# Makes the namespace with its retention and search attributes; repeatable.
set -eu

if ! temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 30d
fi
existing=$(temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE")
for name in TenantId RunKind RunStatus Subject CorrelationId; do
    if ! printf '%s\n' "$existing" | grep -qw "$name"; then
        temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$name" --type Keyword
    fi
done
