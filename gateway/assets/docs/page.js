// The token is kept in a variable and nowhere else: it is gone with the page. It is sent to this gateway alone.
"use strict";
(() => {
  const form = document.getElementById("key");
  const input = document.getElementById("token");
  const said = document.getElementById("said");
  let token = "";

  const say = (text, bad) => {
    said.textContent = text;
    said.classList.toggle("bad", bad);
  };

  const isOurs = (url) => new URL(url, location.href).origin === location.origin;

  const show = (spec) => {
    const ui = SwaggerUIBundle({
      spec,
      dom_id: "#ui",
      presets: [SwaggerUIBundle.presets.apis],
      layout: "BaseLayout",
      validatorUrl: null,
      persistAuthorization: false,
      deepLinking: false,
      requestInterceptor: (request) => {
        // The document is here whole. What looks like a reference within a plugin's example is followed nowhere, least of all with a token.
        if (request.loadSpec) throw new Error("nothing more is loaded");
        if (token && isOurs(request.url)) request.headers.Authorization = `Bearer ${token}`;
        return request;
      },
    });
    if (token) ui.preauthorizeApiKey("bearer", token);
  };

  const load = async () => {
    say("Loading…", false);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    try {
      const answer = await fetch("/openapi.json", { headers, credentials: "omit" });
      const body = await answer.json();
      if (!answer.ok) {
        const asked = answer.status === 401 && !token;
        say(asked ? "Enter a bearer token to see what it may do." : `${answer.status}: ${body.message}`, !asked);
        return;
      }
      show(body);
      const count = Object.keys(body.paths).length;
      say(count === 0 ? "There is nothing here that this caller may do, or no plugin has shown a contract yet." : `${count} paths`, false);
    } catch (error) {
      say(`The gateway could not be asked: ${error.message}`, true);
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token = input.value.trim().replace(/^bearer\s+/i, "");
    load();
  });
  load();
})();
