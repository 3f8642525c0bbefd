"""Objects in S3: agent code, large payloads, outputs."""

from activities.storage.objects import ObjectNotFoundError, ObjectStore, ObjectStoreUnavailableError

__all__ = ["ObjectNotFoundError", "ObjectStore", "ObjectStoreUnavailableError"]
