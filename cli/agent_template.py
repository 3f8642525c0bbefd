"""What ``switchyard agents init`` writes: a small agent that passes the scan and runs as it is."""

import json
from typing import Any

_PYTHON = '''"""Counts words. Reads its inputs as JSON from standard input, prints its output as JSON."""

import json
import re
import sys
from collections import Counter


def main() -> None:
    inputs = json.load(sys.stdin)
    words = re.findall(r"\\w+", inputs["text"].lower())
    print("counting", len(words), "words", file=sys.stderr)
    counted = Counter(words).most_common(inputs.get("top", 5))
    most = [{"word": word, "count": count} for word, count in counted]
    json.dump({"words": len(words), "most_common": most}, sys.stdout)


main()
'''

_NODE = """// Counts words. Reads its inputs as JSON from standard input, prints its output as JSON.

let text = "";
for await (const chunk of process.stdin) text += chunk;
const inputs = JSON.parse(text);

const words = inputs.text.toLowerCase().match(/[\\p{L}\\p{N}_]+/gu) ?? [];
console.error("counting", words.length, "words");
const counts = new Map();
for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, inputs.top ?? 5);
console.log(JSON.stringify({
  words: words.length,
  most_common: most.map(([word, count]) => ({ word, count })),
}));
"""

_README = """# {name}

Standard input brings the inputs as one JSON document; standard output takes the result as one JSON document;
standard error is the log. Anything but exit status 0 is a failure, and nobody is charged for it.

    switchyard agents scan .
    switchyard agents test . --inputs inputs.json
    switchyard agents publish .

`manifest.json` declares what the agent takes, returns, costs and may touch (docs/publishing.md).
"""


def _manifest(slug: str, runtime: str, entry_point: str) -> dict[str, Any]:
    return {
        "name": slug.replace("-", " ").title(),
        "slug": slug,
        "version": "0.1.0",
        "description": "Counts the words of a text and names the most common ones.",
        "category": "text",
        "runtime": runtime,
        "entry_point": entry_point,
        "input_schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["text"],
            "properties": {
                "text": {"type": "string", "minLength": 1, "maxLength": 100_000},
                "top": {"type": "integer", "minimum": 1, "maximum": 50, "default": 5},
            },
        },
        "output_schema": {
            "type": "object",
            "required": ["words", "most_common"],
            "properties": {
                "words": {"type": "integer", "minimum": 0},
                "most_common": {"type": "array", "items": {"type": "object"}},
            },
        },
        "config_schema": {"type": "object", "additionalProperties": False},
        "pricing": {"model": "free"},
        "timeout_ms": 10_000,
        "memory_mb": 128,
    }


def template(slug: str, runtime: str) -> dict[str, str]:
    """Return the files of a new agent: path to content.

    Args:
        slug: Its marketplace name.
        runtime: ``python`` or ``node``.
    """
    entry_point, code = ("main.py", _PYTHON) if runtime == "python" else ("index.mjs", _NODE)
    manifest = _manifest(slug, runtime, entry_point)
    inputs = {"text": "the quick brown fox jumps over the lazy dog", "top": 3}
    return {
        entry_point: code,
        "manifest.json": json.dumps(manifest, indent=2) + "\n",
        "inputs.json": json.dumps(inputs, indent=2) + "\n",
        "README.md": _README.format(name=manifest["name"]),
    }
