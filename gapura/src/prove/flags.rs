//! The command line of `gapura prove`.

use std::net::SocketAddr;
use std::path::PathBuf;

use gapura_settings::address;

/// Fires the known attacks at your own door and tells which of them it held.
#[derive(clap::Args, Clone, Debug)]
pub struct ProveFlags {
    /// The door, with the mount of `gapura prove --plugin` behind it, as in
    /// https://localhost:8443/prove.
    #[arg(
        value_name = "URL",
        required_unless_present = "plugin",
        conflicts_with = "plugin"
    )]
    pub url: Option<String>,
    /// Runs the plugin that stands behind the door under test and tells what reached it.
    #[arg(long, conflicts_with_all = ["json", "floods", "i_may_test"])]
    pub plugin: bool,
    /// Where the plugin listens.
    #[arg(long, env = "GAPURA_LISTEN", default_value = "127.0.0.1:19080", value_name = "ADDRESS:PORT", value_parser = address)]
    pub listen: SocketAddr,
    /// The root of the door's certificate.
    #[arg(long, env = "GAPURA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A file with a token that the door lets in.
    #[arg(
        long,
        env = "GAPURA_TOKEN_FILE",
        value_name = "FILE",
        required_unless_present = "plugin"
    )]
    pub token_file: Option<PathBuf>,
    /// A file with another caller's token, to see that two callers are never mixed up.
    #[arg(long, env = "GAPURA_OTHER_TOKEN_FILE", value_name = "FILE")]
    pub other_token_file: Option<PathBuf>,
    /// The key that signs tokens of a door for tests: a private key in PEM, or a secret for HS256.
    /// More forgeries can be tried with it.
    #[arg(long, env = "GAPURA_TOKEN_KEY", value_name = "FILE")]
    pub token_key: Option<PathBuf>,
    /// The sidecar's own address, to see whom it lets in.
    #[arg(long, env = "GAPURA_SIDECAR", value_name = "HOST:PORT")]
    pub sidecar: Option<String>,
    /// Writes JSON for programs.
    #[arg(long)]
    pub json: bool,
    /// Floods too: thousands of frames on one connection, for some seconds.
    #[arg(long)]
    pub floods: bool,
    /// Says that a host beyond this machine is yours to test; may be given several times.
    #[arg(long = "i-may-test", value_name = "HOST")]
    pub i_may_test: Vec<String>,
}
