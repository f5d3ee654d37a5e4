#!/usr/bin/env python3
"""tenant-notes: a plugin on PostgreSQL, where the database itself keeps companies apart.

It knows nothing of tokens: its sidecar vouches for X-Company-Id and X-User-Id. Each request is one transaction, and the first thing
in it is the company; row level security does the rest, so that a query which forgets its WHERE shows nothing that it should not.

    NOTES_DATABASE="host=127.0.0.1 port=6432 dbname=notes user=notes_app" NOTES_LISTEN=127.0.0.1:19080 ./notes.py
"""

import json, os, re, sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.rows import dict_row

DATABASE = os.environ.get("NOTES_DATABASE", "")
COLUMNS = "id, title, text, author, created_at"
MOST_BYTES = 64 * 1024


@contextmanager
def transaction(company):
    """One transaction that sees and writes the rows of one company."""
    # pgbouncer keeps the connections: a prepared statement would belong to one that the next transaction may not get.
    with psycopg.connect(DATABASE, row_factory=dict_row, prepare_threshold=None) as connection:
        # SET LOCAL app.company_id, with the value bound and not pasted in. A SET without LOCAL would stay on the server's connection
        # when the transaction is over, and whoever got that connection next would be this company.
        connection.execute("SELECT set_config('app.company_id', %s, true)", (company,))
        yield connection


def refuse_a_database_that_would_not_keep_companies_apart():
    with psycopg.connect(DATABASE, prepare_threshold=None) as connection:
        role = connection.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user").fetchone()
        if role[0]:
            sys.exit("NOTES_DATABASE: this role is a superuser or has BYPASSRLS, and would see every company; use notes_app")
        table = connection.execute("SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'notes'::regclass").fetchone()
        if not table[0]:
            sys.exit("NOTES_DATABASE: row level security of the table notes is not enabled and forced; run schema.sql")


def list_notes(request, db):
    words = request.query.get("q", [""])[0]
    found = db.execute(
        f"SELECT {COLUMNS} FROM notes WHERE %s = '' OR title ILIKE %s OR text ILIKE %s ORDER BY id LIMIT 100",
        (words, f"%{words}%", f"%{words}%"),
    )
    return 200, {"notes": found.fetchall(), "count": db.execute("SELECT count(*) FROM notes").fetchone()["count"]}


def add_note(request, db):
    title, text = request.note()
    query = f"INSERT INTO notes (author, title, text) VALUES (%s, %s, %s) RETURNING {COLUMNS}"
    return 201, db.execute(query, (request.user, title, text)).fetchone()


def get_note(request, db, id):
    return 200, db.execute(f"SELECT {COLUMNS} FROM notes WHERE id = %s", (id,)).fetchone()


def put_note(request, db, id):
    title, text = request.note()
    query = f"UPDATE notes SET title = %s, text = %s WHERE id = %s RETURNING {COLUMNS}"
    return 200, db.execute(query, (title, text, id)).fetchone()


def delete_note(request, db, id):
    return 200, db.execute("DELETE FROM notes WHERE id = %s RETURNING id", (id,)).fetchone()


ROUTES = [
    ("GET", r"/notes", list_notes),
    ("POST", r"/notes", add_note),
    ("GET", r"/notes/([0-9]{1,18})", get_note),
    ("PUT", r"/notes/([0-9]{1,18})", put_note),
    ("DELETE", r"/notes/([0-9]{1,18})", delete_note),
]


class Wrong(Exception):
    """What is wrong with a request: a status and a sentence."""


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def note(self):
        try:
            note = json.loads(self.body)
            title, text = note["title"], note["text"]
        except (ValueError, TypeError, KeyError):
            raise Wrong(422, 'The note must be {"title": …, "text": …}.')
        if not (isinstance(title, str) and 1 <= len(title) <= 200 and isinstance(text, str) and len(text) <= 20000):
            raise Wrong(422, "The title must be a text of 1 to 200 characters, the text one of 20000 at most.")
        if "\0" in title + text:
            raise Wrong(422, "The note must not hold the character U+0000.")
        return title, text

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MOST_BYTES or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Wrong(413, "The note is too long.")
        self.body = self.rfile.read(length)
        path = urlsplit(self.path)
        self.query = parse_qs(path.query)
        if path.path == "/healthz":
            return 200, {}
        if path.path == "/version":
            return 200, {"version": "1.0.0"}
        company, self.user = self.headers.get("X-Company-Id"), self.headers.get("X-User-Id") or ""
        if not company:
            raise Wrong(400, "The request acts for no company.")
        for method, pattern, act in ROUTES:
            found = re.fullmatch(pattern, path.path)
            if found and method == self.command:
                with transaction(company) as db:
                    status, data = act(self, db, *found.groups())
                # Another company's note and none at all are the same.
                return (status, data) if data is not None else (404, None)
        return 404, None

    def serve(self):
        try:
            status, data = self.answer()
            message = "Nothing is here." if data is None else ""
        except Wrong as wrong:
            (status, message), data = wrong.args, None
        except psycopg.Error as error:
            print(f"the database says: {error}", file=sys.stderr, flush=True)
            status, message, data = 503, "The database does not answer.", None
        body = json.dumps({"ok": status < 400, "message": message, "data": data}, default=str).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = serve

    def log_message(self, *args):
        pass


def main():
    refuse_a_database_that_would_not_keep_companies_apart()
    host, _, port = os.environ.get("NOTES_LISTEN", "127.0.0.1:19080").rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Request)
    print(f"listening on {host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
