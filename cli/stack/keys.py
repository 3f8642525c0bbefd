"""The step that makes the signing keys of a server once: ``python -m cli.stack.keys DIRECTORY``."""

import sys
from pathlib import Path

from cli.stack.secrets import SecretStore

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    print(SecretStore(directory).signing_key_dir())
