//! Attacks on TLS between the programs and on the machine they run on. Most of these can't be tried
//! from outside; then the row says so.

use crate::prove::attack::{Attack, By, Expect, Knock};

pub(super) const ATTACKS: &[Attack] = &[
    nothing(
        "T1",
        "a root that is missing or broken",
        "takes writing into the mesh directory",
    ),
    Attack {
        id: "T2",
        tries: "a greeting without a name, in two records",
        expect: Expect::Refused,
        by: By::Sidecar(Knock::Nameless),
    },
    Attack {
        id: "T3",
        tries: "each protocol without a certificate",
        expect: Expect::Refused,
        by: By::Sidecar(Knock::EachProtocol),
    },
    nothing(
        "T4",
        "a resumed session that skips the checks",
        "takes a certificate that the sidecar lets in",
    ),
    nothing(
        "T5",
        "names with NUL and wildcards",
        "takes the authority's key",
    ),
    Attack {
        id: "T6",
        tries: "a gateway's name by another authority",
        expect: Expect::Refused,
        by: By::Sidecar(Knock::Impostor),
    },
    Attack {
        id: "T7",
        tries: "the plugin without its sidecar",
        expect: Expect::Refused,
        by: By::Plugin,
    },
    nothing(
        "T8",
        "one's own certificate revoked",
        "takes the authority's key",
    ),
    nothing(
        "T9",
        "a revocation list out of date",
        "takes writing into the mesh directory",
    ),
    nothing(
        "T10",
        "another user of the machine",
        "takes an account on it",
    ),
];

const fn nothing(id: &'static str, tries: &'static str, why: &'static str) -> Attack {
    Attack {
        id,
        tries,
        expect: Expect::Refused,
        by: By::Nothing(why),
    }
}
