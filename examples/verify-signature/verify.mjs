// Verifies X-Internal-Signature (form v2) in a plugin that has no sidecar. No package is needed; take it over as it stands.
//
// keys: what `gapura-gateway signing-key NAME` prints for the plugin, a line each: two while the secret is changed.
// method, target: the request line as it came (`request.method`, `request.url`). headers: as Node has them (`request.headers`).
import { createHmac, timingSafeEqual } from "node:crypto";

const CONTEXT = ["x-request-id", "x-user-id", "x-company-id", "x-role", "x-actor-id"];

export function isFromTheGateway(keys, plugin, method, target, headers, now = Date.now() / 1000) {
  const [form, seconds, mac, ...more] = (headers["x-internal-signature"] ?? "").split(",");
  if (form !== "v2" || more.length > 0 || mac === undefined || !/^[0-9]+$/.test(seconds)) return false;
  if (Math.abs(now - Number(seconds)) > 60) return false; // somebody may have kept it
  const lines = [form, plugin, seconds, method, target, ...CONTEXT.map((name) => headers[name] ?? "")];
  const message = Buffer.from(lines.join("\n"), "latin1");
  const given = Buffer.from(mac, "latin1");
  return keys.some((key) => {
    const good = Buffer.from(createHmac("sha256", Buffer.from(key, "base64url")).update(message).digest("base64url"), "latin1");
    return good.length === given.length && timingSafeEqual(good, given);
  });
}
