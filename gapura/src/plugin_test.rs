//! `gapura plugin test`: does a plugin ever show one company what another has written?
//!
//! In: where a plugin listens, its OpenAPI document, and callers of two companies or more. Out: a
//! [`Report`] of each place where one saw, changed or removed what was the other's, or an error
//! where nothing could be shown. The plugin is called as its sidecar would call it: context
//! headers, and no token. What is written bears marks that nothing else has, so that they are found
//! again wherever they turn up; what has no room for a mark is seen by an answer that changes when
//! another company writes.
//!
//! `contract` reads the document, `samples` makes bodies, `client` speaks HTTP, `trial` is the
//! order of it all.

mod caller;
mod client;
mod contract;
mod ids;
mod report;
mod samples;
mod trial;

use gapura_fetch::Url;
use serde_json::Value;

use crate::error::Error;
pub use caller::Caller;
use client::Client;
use contract::Contract;
pub use report::Report;
use trial::Trial;

/// Tries a plugin. Without `openapi`, the text of its document, the plugin is asked for it.
///
/// # Errors
/// If the question makes no sense, the plugin does not answer, or nothing could be shown.
pub async fn run(url: &Url, openapi: Option<&str>, callers: &[Caller]) -> Result<Report, Error> {
    let mut pairs = Vec::new();
    for writer in callers {
        let others = callers
            .iter()
            .filter(|other| other.company != writer.company);
        pairs.extend(others.map(|reader| (writer, reader)));
    }
    if pairs.is_empty() {
        return Err(Error::Refused(
            "give --as at least twice, for two companies: --as company=42,user=7 --as company=7,user=9".to_owned(),
        ));
    }
    if url.is_tls() {
        return Err(Error::Refused(format!(
            "{url} is https: name the plugin's own address, behind its sidecar"
        )));
    }
    let client = Client::new(url);
    let fetched;
    let text = match openapi {
        Some(text) => text,
        None => {
            fetched = client.document().await?;
            &fetched
        }
    };
    let document: Value = serde_json::from_str(text).map_err(|error| {
        Error::Refused(format!(
            "the OpenAPI document is no JSON: {error}; give one with --openapi FILE"
        ))
    })?;
    let contract = Contract::read(document).map_err(Error::Refused)?;
    let mut report = Report::default();
    let mut shown = false;
    for (writer, reader) in pairs {
        let trial = Trial::new(&client, &contract, writer, reader);
        shown |= trial.run(&mut report).await?;
    }
    if shown || !report.leaks.is_empty() {
        Ok(report)
    } else {
        Err(Error::Failed(format!(
            "nothing was shown: no company found again what it had written itself.\n{}",
            report.untried.join("\n")
        )))
    }
}
