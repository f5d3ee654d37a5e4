"""Verifies X-Internal-Signature (form v2) in a plugin that has no sidecar. No package is needed; take it over as it stands.

keys: what `gapura-gateway signing-key NAME` prints for the plugin, a line each: two while the secret is changed.
method, target: the request line as it came, the query included. headers: a mapping of names in lower case.
"""

import base64, hashlib, hmac, time

CONTEXT = ("x-request-id", "x-user-id", "x-company-id", "x-role", "x-actor-id")


def is_from_the_gateway(keys, plugin, method, target, headers, now=None):
    form, _, rest = headers.get("x-internal-signature", "").partition(",")
    seconds, _, mac = rest.partition(",")
    if form != "v2" or not (seconds.isascii() and seconds.isdigit()):
        return False
    if abs((time.time() if now is None else now) - int(seconds)) > 60:
        return False  # somebody may have kept it
    lines = [form, plugin, seconds, method, target, *(headers.get(name, "") for name in CONTEXT)]
    message = "\n".join(lines).encode("latin-1", "replace")
    for key in keys:
        key = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
        good = base64.urlsafe_b64encode(hmac.new(key, message, hashlib.sha256).digest()).rstrip(b"=")
        if hmac.compare_digest(good, mac.encode("latin-1", "replace")):
            return True
    return False
