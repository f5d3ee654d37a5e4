//! What the gateway answers at its own paths, and why.
//!
//! In: the path, and the request that is asked about. Out: the steps of its explanation, in the
//! order in which the pipeline takes them. No plugin, no host and no rule has a say here.

use gapura_protocol::envelope::Code;
use http::Method;

use super::steps::{Asked, Explanation};
use crate::authenticate::Caller;
use crate::openapi::{self, Mode};
use crate::rate_limit::For;
use crate::registry::AuthMode;
use crate::route::Endpoint;

/// The stage that these steps are of.
const STAGE: &str = "own";

impl Asked<'_> {
    /// The page at `/docs` and its files.
    pub(super) fn docs(&self, told: &mut Explanation) {
        told.is_own();
        told.step(
            "route",
            "with --docs it is a file of the page at /docs, which the gateway has inside; no mount gets it",
        );
        if self.reads(told) {
            told.step(
                STAGE,
                "anybody may have it: it says nothing of any plugin, and asks /openapi.json for that with the reader's token",
            );
        }
    }

    /// One of the paths that every gateway has.
    pub(super) fn own(&self, endpoint: Endpoint, told: &mut Explanation) {
        told.is_own();
        match endpoint {
            Endpoint::Healthz => self.read(told, "200, for as long as the gateway lives"),
            Endpoint::Readyz => {
                self.read(
                    told,
                    "200 once it can serve, 503 before and while it goes down",
                );
            }
            Endpoint::Version => self.read(told, "200 with its name and version"),
            Endpoint::Openapi => self.contracts(told),
            Endpoint::BackchannelLogout if self.door.takes_logouts => {
                let is_posted = self.head.method == Method::POST;
                if !is_posted {
                    let why = "a provider posts its logout token there";
                    return told.refused(STAGE, why, Code::MethodNotAllowed);
                }
                told.step(
                    STAGE,
                    "a provider's logout token is judged there; a bearer token says nothing",
                );
            }
            Endpoint::BackchannelLogout => {
                let why = "without --backchannel-logout nothing is there";
                told.refused(STAGE, why, Code::NoRoute);
            }
            Endpoint::Reserved => {
                let why = "all below /.gapura is the gateway's own, and nothing is there";
                told.refused(STAGE, why, Code::NoRoute);
            }
        }
    }

    fn contracts(&self, told: &mut Explanation) {
        let mode = self.door.openapi;
        if mode == Mode::Off {
            let why = "--openapi off: nobody may have the plugins' contracts";
            return told.refused(STAGE, why, Code::NoRoute);
        }
        if !self.reads(told) {
            return;
        }
        let caller = match mode {
            Mode::Token => {
                told.step(
                    "token",
                    "--openapi token: who asks has to prove who they are",
                );
                match self.caller(AuthMode::GatewayVerified, None, told) {
                    Some(Caller::Verified(caller)) => Some(caller),
                    _ => return,
                }
            }
            Mode::Public | Mode::Off => None,
        };
        if let Some(limit) = openapi::limit(mode)
            && !self.limits(For::Contracts(&limit), caller.as_deref(), told)
        {
            return;
        }
        told.step(
            STAGE,
            match mode {
                Mode::Token => {
                    "200 with the operations of each plugin whose rules leave this caller any request"
                }
                Mode::Public | Mode::Off => "200 with all of it (--openapi public)",
            },
        );
    }

    fn read(&self, told: &mut Explanation, answer: &'static str) {
        if self.reads(told) {
            told.step(STAGE, answer);
        }
    }

    /// Whether it is a request that reads, as all have to be there.
    fn reads(&self, told: &mut Explanation) -> bool {
        let reads = matches!(self.head.method, Method::GET | Method::HEAD);
        if !reads {
            let why = "the gateway's own paths are for reading";
            told.refused(STAGE, why, Code::MethodNotAllowed);
        }
        reads
    }
}
