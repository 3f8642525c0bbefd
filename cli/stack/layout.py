"""Where the embedded stack keeps its data, logs, secrets and state below one directory."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDirectory:
    """Paths below the data directory, ``.switchyard`` by default.

    Attributes:
        root: The data directory, absolute.
    """

    root: Path

    @classmethod
    def at(cls, path: Path) -> "DataDirectory":
        """The directory at ``path``, which need not exist."""
        return cls(path.expanduser().resolve())

    @classmethod
    def create(cls, path: Path) -> "DataDirectory":
        """The directory at ``path``, made where missing; secrets are for the owner only."""
        directory = cls.at(path)
        for child in (directory.root, directory.logs):
            child.mkdir(parents=True, exist_ok=True)
        directory.secrets.mkdir(mode=0o700, exist_ok=True)
        directory.secrets.chmod(0o700)
        return directory

    @property
    def logs(self) -> Path:
        """One file per part."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """Generated passwords and keys, mode 0700."""
        return self.root / "secrets"

    @property
    def state_file(self) -> Path:
        """What runs where, for the other commands; holds no secret."""
        return self.root / "stack.json"

    @property
    def lock_file(self) -> Path:
        """Locked for as long as a supervisor lives."""
        return self.root / "supervisor.lock"

    @property
    def environment_file(self) -> Path:
        """The running stack's settings as environment variables, mode 0600."""
        return self.secrets / "stack.env"

    def log_file(self, part: str) -> Path:
        """Log of one part."""
        return self.logs / f"{part}.log"
