//! The rows of the table that read the same in both programs.

use super::Setting;

/// `--config`
pub const CONFIG: Setting = Setting::one(
    "config",
    "FILE",
    "A JSON file with these settings under the same names; a flag or variable beats it",
);

/// `--state-dir`
pub const STATE_DIR: Setting = Setting::one(
    "state-dir",
    "DIR",
    "Where it is kept how far the CRLs have come, so that none goes back over a restart",
);

/// `--accept-crl-reset`
pub const ACCEPT_CRL_RESET: Setting = Setting::many(
    "accept-crl-reset",
    "ISSUER",
    "Let the CRLs of this issuer begin anew at this start; its name as the alarm writes it; repeatable",
);

/// `--admin-token-file`
pub const ADMIN_TOKEN_FILE: Setting = Setting::one(
    "admin-token-file",
    "FILE",
    "The token the operator's side asks for; required beyond loopback",
);

/// `--health`
pub const HEALTH: Setting = Setting::one(
    "health",
    "ADDR",
    "A further listener with /healthz, /readyz and /metrics only [default: none]",
);

/// `--workers`
pub const WORKERS: Setting = Setting::one(
    "workers",
    "N",
    "Worker threads, 1 to 64 [default: one a core]",
);

/// `--access-log`
pub const ACCESS_LOG: Setting = Setting::one(
    "access-log",
    "WHICH",
    "Which requests leave a line: on, errors or off [default: on]",
);

/// `--no-tap`
pub const NO_TAP: Setting = Setting::switch(
    "no-tap",
    "Take the tap out: nobody can look at finished requests on the operator's side",
);

/// `--drain-timeout`
pub const DRAIN_TIMEOUT: Setting = Setting::one(
    "drain-timeout",
    "TIME",
    "Give requests in flight so long to finish [default: 30s]",
);

/// `--takeover`
pub const TAKEOVER: Setting = Setting::one(
    "takeover",
    "PATH",
    "A unix socket: take the listeners over from the program that offers them there, and offer them to the next [default: none]",
);

/// `--check`
pub const CHECK: Setting = Setting::switch(
    "check",
    "Load everything, say everything that is wrong, serve nothing",
);
