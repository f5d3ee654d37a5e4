//! Why a certificate or news could not be had: one sentence for the operator, and what follows for
//! the agent.

use std::fmt;

use gapura_enrol::refusal::{Code, Refused};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The CA server can't be reached, or broke off.
    Unreachable(String),
    /// Whoever answers is not who we may believe.
    Distrusted(String),
    /// A certificate has ended or not begun, by our clock: the CA server's, or the one that just
    /// came.
    OutOfDate(String),
    /// The CA server refuses our certificate in the handshake; the label of its alert.
    Unwelcome(&'static str, String),
    /// It answered that it will not.
    Refused(Refused),
    /// It answered what makes no sense.
    Nonsense(String),
    /// What it gave is not a set that fits.
    Misfit(String),
    /// Its CRLs have lost what those here say: it was put back to an older backup.
    RolledBack(String),
    /// This host's disk.
    Disk(String),
    /// The join token, or the lack of one.
    Token(String),
}

impl Trouble {
    /// Whether trying again with the same certificate can't help: an operator has to bring a new
    /// join token.
    pub(crate) fn needs_token(&self) -> bool {
        match self {
            Self::Refused(refused) => matches!(
                refused.code,
                Code::Revoked
                    | Code::Forgotten
                    | Code::Expired
                    | Code::CertificateUnknown
                    | Code::NotEnrolled
            ),
            Self::Unwelcome(reason, _) => matches!(*reason, "alert_revoked" | "alert_expired"),
            Self::Token(_) => true,
            _ => false,
        }
    }

    /// Whether the very token that was shown is good for nothing any more.
    pub(crate) fn spends_token(&self) -> bool {
        matches!(self, Self::Refused(refused) if matches!(
            refused.code,
            Code::TokenUsed | Code::TokenExpired | Code::TokenUnknown | Code::TokenIdentity
        ))
    }

    /// Whether somebody must act before it can get better.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Refused(refused) => !refused.code.passes(),
            Self::Unreachable(_) | Self::Nonsense(_) | Self::RolledBack(_) => false,
            _ => true,
        }
    }

    /// A fixed word for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Distrusted(_) => "distrusted",
            Self::OutOfDate(_) => "clock",
            Self::Unwelcome(..) | Self::Refused(_) => "refused",
            Self::Nonsense(_) => "nonsense",
            Self::Misfit(_) => "misfit",
            Self::RolledBack(_) => "rolled_back",
            Self::Disk(_) => "disk",
            Self::Token(_) => "token",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the CA server can't be reached: {why}"),
            Self::Distrusted(why) => write!(
                f,
                "whoever answers is not this installation's CA server, and was told nothing: {why}"
            ),
            Self::OutOfDate(why) => write!(
                f,
                "{why}; set the clock of this host by NTP, or where it is right, renew what has ended at the CA with `gapura-pki renew`"
            ),
            Self::Unwelcome(_, why) => {
                write!(f, "the CA server refuses our certificate: {why}")
            }
            Self::Refused(refused) => write!(f, "the CA server refuses: {refused}"),
            Self::Nonsense(why) => write!(f, "the CA server answers what makes no sense: {why}"),
            Self::Misfit(why) => write!(
                f,
                "what the CA server gave does not fit and is not taken; what is there stays in force: {why}"
            ),
            Self::RolledBack(why) => write!(
                f,
                "the CA was put back to an older backup, and what it gives is not taken before it knows again what it has forgotten; what is there stays in force: {why}"
            ),
            Self::Disk(why) | Self::Token(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_operator_must_mend_lasts() {
        let refused = |code: Code| Trouble::Refused(code.into());
        for (trouble, token, lasting) in [
            (refused(Code::Revoked), true, true),
            (refused(Code::Expired), true, true),
            (refused(Code::CsrInvalid), false, true),
            (refused(Code::TooMany), false, false),
            (refused(Code::Unavailable), false, false),
            (Trouble::Unreachable(String::new()), false, false),
            (
                Trouble::Unwelcome("alert_revoked", String::new()),
                true,
                true,
            ),
            (
                Trouble::Unwelcome("alert_unknown_ca", String::new()),
                false,
                true,
            ),
            (Trouble::Disk(String::new()), false, true),
        ] {
            let told = (trouble.needs_token(), trouble.is_lasting());
            assert_eq!(told, (token, lasting), "{trouble:?}");
        }
        assert!(refused(Code::TokenUsed).spends_token());
        assert!(!refused(Code::Overloaded).spends_token());
    }
}
