//! Certificates over the network: the CA server as curl and OpenSSL see it, and the agents.

mod ca_joins; // the first certificate, for a join token
mod ca_limits; // what it holds, and how fast it is
mod ca_news; // roots and CRLs, at once
mod ca_renewals; // the next certificate, for the one before
mod ca_starts; // good and bad beginnings, ends
mod ca_strangers; // keys of other roles, and what they are told
mod host; // one host with a CA server, for all of these
