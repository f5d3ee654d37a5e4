# An OpenID provider that no one here wrote (idpyoidc): its metadata, its keys, its tokens. One wish a line on standard input.
import json, sys, threading
import requests
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from cryptojwt.jwk.ec import new_ec_key
from cryptojwt.jwt import JWT
from cryptojwt.key_bundle import KeyBundle
from idpyoidc.server import Server
from idpyoidc.server.configure import OPConfiguration

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/.well-known/openid-configuration":
            args = server.get_endpoint("provider_config").process_request()
            body = args["response_args"]
            body = body.to_json() if hasattr(body, "to_json") else json.dumps(body)
        elif self.path == "/keys":
            body = server.keyjar.export_jwks_as_json("")
        else:
            self.send_error(404); return
        self.send_response(200); self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body.encode())
    def log_message(self, *args): pass

http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
issuer = f"http://127.0.0.1:{http.server_port}"
conf = {
  "issuer": issuer,
  "keys": {"uri_path": "keys", "key_defs": [{"type": "EC", "crv": "P-256", "use": ["sig"]}]},
  "endpoint": {"session": {"path": "session", "class": "idpyoidc.server.oidc.session.Session", "kwargs": {}},
    "provider_config": {"path": ".well-known/openid-configuration", "class": "idpyoidc.server.oidc.provider_config.ProviderConfiguration", "kwargs": {}}},
  "session_params": {"encrypter": {"kwargs": {"keys": {"key_defs": [{"type":"OCT","use":["enc"],"kid":"password"},{"type":"OCT","use":["enc"],"kid":"salt"}]},"iterations":1}}},
  "token_handler_args": {"jwks_def": {"private_path": None, "key_defs": [{"type":"oct","bytes":24,"use":["enc"],"kid":"code"}]}, "code": {"lifetime":600}, "token": {"class":"idpyoidc.server.token.jwt_token.JWTToken","kwargs":{"lifetime":600}}},
  "template_dir": ".",
}
server = Server(OPConfiguration(conf=conf, base_path="."), cwd=".")
threading.Thread(target=http.serve_forever, daemon=True).start()
print(json.dumps({"issuer": issuer}), flush=True)
for line in sys.stdin:
    wish = json.loads(line)
    if wish["do"] == "rotate":
        key = new_ec_key(crv="P-256", use="sig"); key.add_kid()
        kb = KeyBundle(); kb.append(key)
        server.keyjar.add_kb("", kb)
        print(json.dumps({"kid": key.kid}), flush=True)
    elif wish["do"] == "logout":
        client = {"client_id": wish["client"], "backchannel_logout_uri": wish["uri"], "id_token_signed_response_alg": "ES256"}
        uri, token = server.get_endpoint("session").do_back_channel_logout(client, wish["sid"])
        answer = requests.post(uri, data={"logout_token": token}, verify=wish["ca"], timeout=30)
        print(json.dumps({"status": answer.status_code, "cache": answer.headers.get("Cache-Control")}), flush=True)
    else:
        jwt = JWT(key_jar=server.keyjar, iss=issuer, sign_alg="ES256", lifetime=600)
        jwt.with_jti = True
        kid = wish.get("kid") or ""
        print(json.dumps({"token": jwt.pack(wish["claims"], issuer_id="", kid=kid, aud=wish["aud"])}), flush=True)
