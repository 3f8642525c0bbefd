"""The agent-code scanner: archives, Python and JavaScript rules, dependencies, verdicts.

Entry points: `unpack` and `decode_base64` read a submission, `scan` judges it in this process,
`scan_in_process` in a killable child, `scan_path` reads a folder or archive from disk first.
"""

from activities.scanning.archive import Submission, decode_base64, read_folder, submission_of, unpack
from activities.scanning.limits import SUBMISSION_LIMITS, ArchiveLimits
from activities.scanning.osv import import_osv
from activities.scanning.packing import pack_canonically
from activities.scanning.process import ScanOutcome, scan_in_process, scan_path
from activities.scanning.rulebook import RULE_SET_VERSION, RULES
from activities.scanning.scanner import scan

__all__ = [
    "RULES",
    "RULE_SET_VERSION",
    "SUBMISSION_LIMITS",
    "ArchiveLimits",
    "ScanOutcome",
    "Submission",
    "decode_base64",
    "import_osv",
    "pack_canonically",
    "read_folder",
    "scan",
    "scan_in_process",
    "scan_path",
    "submission_of",
    "unpack",
]
