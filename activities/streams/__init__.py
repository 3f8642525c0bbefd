"""Events on their way out: published once, streamed to many, handed to consumer groups and webhooks."""
