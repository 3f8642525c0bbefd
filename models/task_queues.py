"""Temporal task queues: what kind of worker takes which work (DESIGN §4)."""

from enum import StrEnum


class TaskQueue(StrEnum):
    """One queue per kind of load, so that each can have workers of its own."""

    CORE = "core"
    """Workflows and light activities."""
    SANDBOX = "sandbox"
    """Agent containers; few at once, on hosts with a Docker Engine."""
    LLM = "llm"
    """Model calls; rate-limited."""
    MONEY = "money"
    """Payment rails; low concurrency."""
