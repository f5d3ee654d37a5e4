//! Leaves that hosts get over the network: the join tokens, the registrar that answers requests,
//! and the news that goes to everybody.
//!
//! In: requests, as the CA server has read them off a connection, and whom the handshake proved.
//! Out: certificates, each in the inventory before it leaves, or a refusal with its code. Identity,
//! names and purpose of a leaf come from the inventory; of a request only its key is used. Nothing
//! here opens a socket or writes a mesh directory: the host's own agent publishes.

mod join;
mod news;
mod registrar;
mod seen;

pub use join::JoinRequest;
pub use news::{Herald, Said};
pub use registrar::{Ask, Copied, Granted, Registrar};

pub(crate) use news::print;
pub(crate) use seen::load as hosts;
