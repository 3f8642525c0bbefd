"""Every bound of the scanner in one place. Sizes in bytes, times in seconds."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds of a submitted archive.

    Attributes:
        compressed: Bytes of the archive as uploaded.
        stream: Bytes of the decompressed tar, headers and padding included.
        total: Sum of the file sizes.
        file: Size of one file.
        count: Number of files.
        path: Bytes of a path.
        depth: Parts of a path.
    """

    compressed: int = 10 * MIB
    stream: int = 14 * MIB
    total: int = 10 * MIB
    file: int = 10 * MIB
    count: int = 2_000
    path: int = 200
    depth: int = 20


SUBMISSION_LIMITS = ArchiveLimits()

# Words and punctuation marks of one parse. A tree takes up to 650 bytes for each.
PART_TOKENS = 240_000

# Constant folding.
MAX_FOLDED_LENGTH = 400_000
MAX_INFLATED = 2 * MIB
MAX_FOLD_STEPS = 100_000
MAX_FOLD_DEPTH = 150
MAX_DECODE_DEPTH = 6
MAX_PAYLOADS = 400
MAX_PAYLOAD_BYTES = 4 * MIB

# Findings: beyond these only the number is kept, per file and in the report.
MAX_FINDINGS_PER_RULE_AND_FILE = 5
MAX_FINDINGS = 300

# The killable child. The sum over its processes stays below MEMORY_BYTES: what the coordinator has
# at the start (70 MiB), FORK_BYTES shared between the forks, ANSWER_BYTES when they are gone.
MEMORY_BYTES = 512 * MIB
FORK_BYTES = 320 * MIB
ANSWER_BYTES = 256 * MIB
CPU_SECONDS = 20
WALL_SECONDS = 30.0
PARSE_SECONDS = 3.0
PARALLEL_THRESHOLD = 1 * MIB
SPAN_BYTES = 2 * MIB
