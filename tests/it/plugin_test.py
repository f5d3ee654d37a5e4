# A plugin of notes in memory, for the tests of `gapura plugin test`. Its one argument says what it leaks.
import json, re, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEAK = sys.argv[1]
notes, settings = {}, {}
BODY = {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}}}}
DOCUMENT = {
    "openapi": "3.0.3",
    "paths": {
        "/notes": {"get": {"parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}]}, "post": BODY},
        "/notes/{id}": {"get": {}, "put": BODY, "delete": {}},
        "/notes/{id}/comments": {"get": {}, "post": BODY},
        "/settings/{name}": {"get": {}, "put": BODY},
        "/count": {"get": {}},
        "/import": {"post": {"requestBody": {"content": {"text/csv": {}}}}},
    },
    "components": {"schemas": {"Note": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "maxLength": 80}}}}},
}


class Plugin(BaseHTTPRequestHandler):
    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        company = self.headers.get("X-Company-Id")
        path, _, query = self.path.partition("?")
        status, answer = self.decide(company, path, query, json.loads(body) if body else None)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def decide(self, company, path, query, body):
        method = self.command
        if path == "/openapi.json":
            return 200, DOCUMENT
        if company is None or LEAK == "deaf":
            return 400, {"ok": False}
        mine = lambda leak: [n for n in notes.values() if n["company"] == company or LEAK == leak]
        shown = lambda n: {"id": n["id"], "text": n["text"]}
        if path == "/notes" and method == "GET":
            found = mine("search") if query else mine("list")
            return 200, [shown(n) for n in found if query.removeprefix("q=") in n["text"]]
        if path == "/notes" and method == "POST":
            note = {"id": len(notes) + 1, "company": company, "text": body["text"], "comments": []}
            notes[note["id"]] = note
            return 201, {"data": shown(note)}
        if path == "/count":
            return 200, {"count": len(mine("count"))}
        if path.startswith("/settings/"):
            key = (path, None if LEAK == "settings" else company)
            if method == "PUT":
                settings[key] = body["text"]
            return (200, {"text": settings[key]}) if key in settings else (404, {})
        found = re.fullmatch(r"/notes/([0-9]+)(/comments)?", path)
        note = notes.get(int(found[1])) if found else None
        if note is None:
            return 404, {}
        if found[2]:
            if note["company"] != company and LEAK != "comments":
                return 404, {}
            if method == "POST":
                note["comments"].append(body["text"])
                return 201, {}
            return (200, note["comments"]) if note["company"] == company else (404, {})
        if note["company"] != company and LEAK != method.lower():
            return 404, {}
        if method == "PUT":
            note["text"] = body["text"]
            return 200, {}
        if method == "DELETE":
            del notes[note["id"]]
            return 204, {}
        return 200, shown(note)

    do_GET = do_POST = do_PUT = do_DELETE = serve

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Plugin)
print(server.server_port, flush=True)
server.serve_forever()
