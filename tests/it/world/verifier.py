# The service that nginx asks whether a token counts: PyJWT with everything it can be told to look at.
import http.server
import sys

import jwt

port, key, issuer, audience = sys.argv[1:]
key = open(key).read()


class Verifier(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise jwt.InvalidTokenError
            claims = jwt.decode(
                token, key, algorithms=["ES256"], issuer=issuer, audience=audience, options={"require": ["exp", "iss", "aud"]}
            )
            who = [str(claims["user_id"]), str(claims["company_id"]), str(claims.get("role", ""))]
        except (jwt.InvalidTokenError, KeyError):
            self.send_response(401)
            self.end_headers()
            return
        self.send_response(200)
        for name, value in zip(["X-User-Id", "X-Company-Id", "X-Role"], who):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Verifier).serve_forever()
