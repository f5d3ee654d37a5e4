# A page of another origin. A wish is where the gateway is, and a token.
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCRIPT = """
const [gateway, token, done] = arguments;
const out = {};
const get = (path, token, method = "GET") =>
  fetch(gateway + path, { method, headers: token ? { Authorization: "Bearer " + token } : {} });
const refusal = async (answer) => [answer.status, (await answer.json()).errors.code];
const websocket = (protocols) => new Promise((resolve) => {
  const socket = new WebSocket(gateway.replace("https:", "wss:") + "/echo/ws", protocols);
  socket.onopen = () => socket.send("hi");
  socket.onmessage = (event) => { resolve([socket.protocol, event.data]); socket.close(); };
  socket.onerror = () => resolve("closed");
});
(async () => {
  const ok = await get("/echo/x", token);
  out.ok = [ok.status, ok.headers.get("X-Request-Id") !== null];
  out.no_token = await refusal(await get("/echo/x"));
  out.bad_token = await refusal(await get("/echo/x", "a.b.c"));
  out.forbidden = await refusal(await get("/echo/x", token, "DELETE"));
  const reader = (await get("/echo/events", token)).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("two\\n\\n")) text += (await reader.read()).value;
  out.events = text.trim().split("\\n\\n");
  await reader.cancel();
  out.websocket = await websocket(["app.v1", "bearer." + token]);
  out.without_token = await websocket(["app.v1"]);
})().catch((error) => { out.error = String(error); }).finally(() => done(out));
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<!doctype html><title>a page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


pages = ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=pages.serve_forever, daemon=True).start()
origin = f"http://localhost:{pages.server_port}"
print(json.dumps({"origin": origin}), flush=True)
# The gateway's certificate is the test's own.
driver = chromium("--ignore-certificate-errors")
driver.set_script_timeout(120)
driver.get(origin)
serve(driver, lambda wish: driver.execute_async_script(SCRIPT, wish["gateway"], wish["token"]))
