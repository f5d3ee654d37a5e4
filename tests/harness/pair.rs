//! A gateway and a sidecar on mesh directories that somebody else writes: `gapura-pki` by hand, or
//! agents.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{self, Under};
use crate::plugin::Plugin;
use crate::program::{Invocation, Program};
use crate::tokens::{AUDIENCE, ISSUER, Signer, jwks};
use crate::wire::Wire;
use crate::within;

/// Ten times what is promised, on a machine that others use too.
const PATIENT: Duration = Duration::from_secs(50);

/// What every load of a rotation is.
const PER_SECOND: u32 = 200;

/// The pair, with a plugin behind it at `/echo`.
pub struct Pair {
    /// The gateway, `gateway/edge`.
    pub gateway: Program,
    /// The sidecar, `plugin/echo`.
    pub sidecar: Program,
    signer: Signer,
    _plugin: Plugin,
}

impl Pair {
    /// On the directories `edge` and `echo` below `dir`, once a request has gone through.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let plugin = Plugin::tcp();
        let common = |name: &str| {
            Invocation::new()
                .flag("--listen", "127.0.0.1:0")
                .flag("--admin", "127.0.0.1:0")
                .flag("--workers", "1")
                .flag("--mesh-dir", dir.join(name))
        };
        let mut sidecar = common("echo")
            .flag("--plugin", plugin.url())
            .start("gapura-sidecar");
        sidecar.wait_until_started();
        let plugins = dir.join("plugins.d");
        std::fs::create_dir(&plugins).unwrap();
        let entry = json!({
            "name": "echo", "version": "1", "mount": "/echo", "upstream": format!("https://{}", sidecar.address("hop")),
            "auth_mode": "gateway_verified",
        });
        std::fs::write(plugins.join("echo.json"), entry.to_string()).unwrap();
        let signer = Signer::es256("k");
        std::fs::write(dir.join("jwks.json"), jwks(&[&signer])).unwrap();
        let mut gateway = common("edge")
            .flag("--plugin-dir", &plugins)
            .flag("--jwks", dir.join("jwks.json"))
            .flag("--issuer", ISSUER)
            .flag("--audience", AUDIENCE)
            .start("gapura-gateway");
        gateway.wait_until_started();
        let pair = Self {
            gateway,
            sidecar,
            signer,
            _plugin: plugin,
        };
        within(PATIENT, "a first request goes through", || {
            (pair.get() == 200).then_some(())
        });
        pair
    }

    /// The status of a request over a connection of its own.
    #[must_use]
    pub fn get(&self) -> u16 {
        let mut wire = Wire::plain(self.gateway.address("public"));
        wire.send(self.request(&self.token()));
        wire.response().status
    }

    fn token(&self) -> String {
        self.signer.token_of("7", "42")
    }

    fn request(&self, token: &str) -> String {
        format!("GET /echo/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
    }

    /// 200 requests a second while `change` runs and a second at least, of which none may fail.
    #[track_caller]
    #[allow(clippy::print_stdout, reason = "what was measured is read by people")]
    pub fn under_load(&self, change: impl FnOnce()) {
        let token = self.token();
        let change = |load: &Under<'_>| {
            change();
            within(PATIENT, "there is a load", || {
                (load.requests() >= PER_SECOND).then_some(())
            });
        };
        let address = self.gateway.address("public");
        let load = load::steady(address, PER_SECOND, || self.request(&token), change);
        println!("{load}");
        load.assert_none_failed();
    }

    /// What `program` says of its trust.
    #[must_use]
    pub fn certificates(&self, program: &Program) -> Value {
        let address = program.address("admin");
        let mut wire = Wire::plain(address);
        wire.send(format!(
            "GET /certificates HTTP/1.1\r\nHost: {address}\r\n\r\n"
        ));
        serde_json::from_str(&wire.response().text()).unwrap()
    }
}
