# A provider of another family (Authlib on Flask): RFC 6749 client credentials, RFC 9068 access tokens, RFC 8414 metadata. One wish a line on
# standard input: the name of a client, for which a token is fetched as that client would.
import json, os, sys, threading
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # on loopback
import requests
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.models import ClientMixin
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from flask import Flask, jsonify
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import WSGIRequestHandler, make_server

class Client(ClientMixin):
    def __init__(self, name, company): self.client_id, self.company = name, company
    def get_client_id(self): return self.client_id
    def get_default_redirect_uri(self): return None
    def get_allowed_scope(self, scope): return scope or ""
    def check_redirect_uri(self, uri): return False
    def check_client_secret(self, secret): return secret == self.client_id + "-secret"
    def check_endpoint_auth_method(self, method, endpoint): return method == "client_secret_basic"
    def check_response_type(self, kind): return False
    def check_grant_type(self, kind): return kind == "client_credentials"

class Tokens(JWTBearerTokenGenerator):
    def get_jwks(self): return keys
    def get_audiences(self, client, user, scope): return ["test-api"]
    def get_extra_claims(self, client, grant_type, user, scope): return {"company_id": client.company, "role": "member"}

clients = {"clinic": Client("clinic", 42), "bank": Client("bank", 7)}
keys = KeySet([RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)])
app = Flask(__name__)
app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": 600}

class Quiet(WSGIRequestHandler):
    def log(self, *args): pass

http = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
issuer = f"http://127.0.0.1:{http.server_port}"
server = AuthorizationServer(app, query_client=clients.get, save_token=lambda token, request: None)
server.register_grant(ClientCredentialsGrant)
server.register_token_generator("default", Tokens(issuer=issuer))

@app.get("/.well-known/openid-configuration")
def metadata():
    document = AuthorizationServerMetadata(issuer=issuer, authorization_endpoint=f"{issuer}/authorize", token_endpoint=f"{issuer}/token",
        jwks_uri=f"{issuer}/jwks.json", response_types_supported=["code"], grant_types_supported=["client_credentials"])
    return jsonify(document)

@app.get("/jwks.json")
def jwks(): return jsonify(keys.as_dict(private=False))

@app.post("/token")
def token(): return server.create_token_response()

threading.Thread(target=http.serve_forever, daemon=True).start()
print(json.dumps({"issuer": issuer}), flush=True)
for line in sys.stdin:
    client = json.loads(line)["client"]
    answer = requests.post(f"{issuer}/token", data={"grant_type": "client_credentials"}, auth=(client, client + "-secret"), timeout=30)
    print(json.dumps({"token": answer.json()["access_token"]}), flush=True)
