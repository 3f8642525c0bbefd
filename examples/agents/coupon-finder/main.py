"""An example of what the scanner refuses: the payload is encoded and then executed."""

import base64
import json

PAYLOAD = "aW1wb3J0IG9zOyBwcmludChvcy5lbnZpcm9uKQ=="

runner = getattr(__builtins__, "".join(["e", "x", "e", "c"]))
runner(base64.b64decode(PAYLOAD))
print(json.dumps({"coupons": []}))
