//! One company writes, another reads: what the second must never meet.
//!
//! The order: the reader's answers before anything happens; the writer's writing, parents before
//! what lies below them; the writer's own reading, without which nothing would be shown; the
//! reader's reading of the very same; then the reader's writing on what is the writer's; at last
//! the writer removes its own.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use gapura_protocol::text::hex;
use http::Method;
use serde_json::Value;

use super::caller::Caller;
use super::client::{Answer, Ask, Client};
use super::contract::{Body, Contract, Operation, Parameter};
use super::ids::{escaped, find, id_in, with_query};
use super::report::Report;
use super::samples::{Fill, in_text, sample};
use crate::error::Error;

/// A trial of one pair.
pub(super) struct Trial<'a> {
    client: &'a Client,
    contract: &'a Contract,
    writer: &'a Caller,
    reader: &'a Caller,
    /// Stands in all that the writer writes, and nowhere else.
    mark: String,
    /// The same of the reader.
    counter_mark: String,
}

/// What the writer has written.
struct Written<'a> {
    operation: &'a Operation,
    /// The path it was written to.
    path: String,
    answer: Answer,
}

/// A question that the writer asked, and its answer.
struct Read<'a> {
    operation: &'a Operation,
    ask: Ask,
    own: Answer,
}

/// An answer that changes by itself within this says nothing of who has written.
const STABLE_FOR: Duration = Duration::from_millis(1100);

impl<'a> Trial<'a> {
    pub(super) fn new(
        client: &'a Client,
        contract: &'a Contract,
        writer: &'a Caller,
        reader: &'a Caller,
    ) -> Self {
        Self {
            client,
            contract,
            writer,
            reader,
            mark: new_mark(),
            counter_mark: new_mark(),
        }
    }

    /// Runs it; whether the writer found again what it had written.
    pub(super) async fn run(&self, report: &mut Report) -> Result<bool, Error> {
        let before = self.before().await?;
        let written = self.write(report).await?;
        let reads = self.read(&written, report).await?;
        let shown = reads.iter().any(|read| read.own.has(&self.mark));
        for read in &reads {
            self.read_as_other(read, &before, report).await?;
        }
        self.write_as_other(&written, &reads, report).await?;
        self.remove(&written).await?;
        Ok(shown)
    }

    /// What the reader is answered where no id is asked for, as far as that does not change by
    /// itself.
    async fn before(&self) -> Result<Vec<(Ask, Answer)>, Error> {
        let mut asked = Vec::new();
        for operation in self.of(&[Method::GET]) {
            if operation.in_path().is_empty() {
                let ask = self.ask(operation, &operation.path, None);
                let answer = self.client.send(&ask, Some(self.reader)).await?;
                asked.push((ask, answer));
            }
        }
        if !asked.is_empty() {
            tokio::time::sleep(STABLE_FOR).await;
        }
        let mut stable = Vec::new();
        for (ask, first) in asked {
            let second = self.client.send(&ask, Some(self.reader)).await?;
            if second.text == first.text && second.status == first.status {
                stable.push((ask, first));
            }
        }
        Ok(stable)
    }

    /// The writer writes whatever the document lets it.
    async fn write(&self, report: &mut Report) -> Result<Vec<Written<'a>>, Error> {
        let mut written: Vec<Written<'a>> = Vec::new();
        let mut operations = self.of(&[Method::POST, Method::PUT, Method::PATCH]);
        // What lies below another thing can be written only once that is there; what changes a
        // thing, once it is made.
        operations
            .sort_by_key(|operation| (operation.in_path().len(), operation.method != Method::POST));
        for operation in operations {
            let schema = match &operation.body {
                Body::Json(schema) => Some(schema),
                Body::None => None,
                Body::Other => {
                    skip(report, operation, "it takes no JSON");
                    continue;
                }
            };
            let filled = self.filled(operation, &written);
            let may_name = operation.method == Method::PUT;
            let Some(path) = filled.or_else(|| may_name.then(|| self.named(operation))) else {
                skip(report, operation, "no id for its path is known");
                continue;
            };
            let mut refused = None;
            for fill in [Fill::All, Fill::Required] {
                let body = schema.map(|schema| sample(self.contract, schema, &self.mark, fill));
                let ask = self.ask(operation, &path, body);
                let answer = self.client.send(&ask, Some(self.writer)).await?;
                if answer.status.is_success() {
                    note(&mut report.tried, operation.name());
                    let path = path.clone();
                    written.push(Written {
                        operation,
                        path,
                        answer,
                    });
                    refused = None;
                    break;
                }
                refused = Some(answer.status.as_u16());
            }
            if let Some(status) = refused {
                let company = &self.writer.company;
                let why = format!("company {company}'s writing is answered with {status}");
                skip(report, operation, &why);
            }
        }
        Ok(written)
    }

    /// The writer reads wherever it may.
    async fn read(
        &self,
        written: &[Written<'a>],
        report: &mut Report,
    ) -> Result<Vec<Read<'a>>, Error> {
        let mut reads = Vec::new();
        for operation in self.of(&[Method::GET]) {
            let Some(path) = self.filled(operation, written) else {
                skip(report, operation, "no id for its path is known");
                continue;
            };
            note(&mut report.tried, operation.name());
            for ask in self.asks(operation, &path) {
                let own = self.client.send(&ask, Some(self.writer)).await?;
                reads.push(Read {
                    operation,
                    ask,
                    own,
                });
            }
        }
        Ok(reads)
    }

    /// The reader asks the same.
    async fn read_as_other(
        &self,
        read: &Read<'_>,
        before: &[(Ask, Answer)],
        report: &mut Report,
    ) -> Result<(), Error> {
        let answer = self.client.send(&read.ask, Some(self.reader)).await?;
        let is_of_one = !read.operation.in_path().is_empty();
        let same = is_of_one
            && answer.status.is_success()
            && read.own.status.is_success()
            && !answer.text.trim().is_empty()
            && answer.text == read.own.text;
        let last = before.iter().find(|(ask, _)| *ask == read.ask);
        let what = if answer.has(&self.mark) {
            "saw what was written by"
        } else if same {
            "got the same answer as"
        } else if last.is_some_and(|(_, last)| last.text != answer.text) {
            "got another answer than before, by what was written by"
        } else {
            return Ok(());
        };
        self.leak(report, read.operation, what);
        Ok(())
    }

    /// The reader writes on what is the writer's.
    async fn write_as_other(
        &self,
        written: &[Written<'a>],
        reads: &[Read<'a>],
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut operations = self.of(&[Method::POST, Method::PUT, Method::PATCH, Method::DELETE]);
        operations.retain(|operation| !operation.in_path().is_empty());
        operations.sort_by_key(|operation| operation.method == Method::DELETE);
        for operation in operations {
            let Some(path) = self.filled(operation, written) else {
                skip(report, operation, "no id for its path is known");
                continue;
            };
            let body = match &operation.body {
                Body::Other => continue,
                Body::None => None,
                Body::Json(schema) => {
                    Some(sample(self.contract, schema, &self.counter_mark, Fill::All))
                }
            };
            note(&mut report.tried, operation.name());
            let ask = self.ask(operation, &path, body);
            let answer = self.client.send(&ask, Some(self.reader)).await?;
            if answer.has(&self.mark) {
                self.leak(report, operation, "saw what was written by");
            }
            for read in reads.iter().filter(|read| read.own.status.is_success()) {
                let now = self.client.send(&read.ask, Some(self.writer)).await?;
                if now.has(&self.counter_mark) {
                    self.leak(report, operation, "changed what is of");
                } else if read.own.has(&self.mark) && !now.has(&self.mark) {
                    self.leak(report, operation, "removed what is of");
                }
            }
        }
        Ok(())
    }

    /// The writer removes what it wrote, where that can be done.
    async fn remove(&self, written: &[Written<'a>]) -> Result<(), Error> {
        let mut operations = self.of(&[Method::DELETE]);
        operations.sort_by_key(|operation| std::cmp::Reverse(operation.in_path().len()));
        for operation in operations {
            let filled = self.filled(operation, written);
            if let Some(path) = filled.filter(|_| !operation.in_path().is_empty()) {
                let ask = self.ask(operation, &path, None);
                self.client.send(&ask, Some(self.writer)).await?;
            }
        }
        Ok(())
    }

    fn of(&self, methods: &[Method]) -> Vec<&'a Operation> {
        let operations = self.contract.operations.iter();
        operations
            .filter(|operation| methods.contains(&operation.method))
            .collect()
    }

    fn leak(&self, report: &mut Report, operation: &Operation, what: &str) {
        let (route, reader, writer) =
            (operation.name(), &self.reader.company, &self.writer.company);
        note(
            &mut report.leaks,
            format!("{route}: company {reader} {what} company {writer}"),
        );
    }

    /// A question with the query that it must have.
    fn ask(&self, operation: &Operation, path: &str, body: Option<Value>) -> Ask {
        let required = |parameter: &&Parameter| !parameter.in_path && parameter.required;
        let query: Vec<String> = operation
            .parameters
            .iter()
            .filter(required)
            .map(|parameter| self.query(parameter))
            .collect();
        Ask {
            method: operation.method.clone(),
            target: with_query(path, &query.join("&")),
            body,
        }
    }

    /// A question, and the same for each part of the query that may name what is looked for.
    fn asks(&self, operation: &Operation, path: &str) -> Vec<Ask> {
        let plain = self.ask(operation, path, None);
        let searches = operation.parameters.iter().filter(|parameter| {
            !parameter.in_path
                && !parameter.required
                && sample(self.contract, &parameter.schema, &self.mark, Fill::All)
                    == self.mark.as_str()
        });
        let searches = searches.map(|parameter| Ask {
            target: with_query(&plain.target, &self.query(parameter)),
            ..plain.clone()
        });
        std::iter::once(plain.clone()).chain(searches).collect()
    }

    fn query(&self, parameter: &Parameter) -> String {
        let value = sample(self.contract, &parameter.schema, &self.mark, Fill::All);
        format!("{}={}", escaped(&parameter.name), escaped(&in_text(&value)))
    }

    /// The path of an operation with the ids of what the writer has written; `None` where one is
    /// not known.
    fn filled(&self, operation: &Operation, written: &[Written<'_>]) -> Option<String> {
        let known = written
            .iter()
            .rfind(|known| known.operation.path == operation.path);
        if let Some(known) = known.filter(|_| !operation.in_path().is_empty()) {
            return Some(known.path.clone());
        }
        let (mut path, mut template) = (String::new(), String::new());
        for segment in operation.path.split('/').skip(1) {
            let id = match segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
            {
                None if segment.contains('{') => return None,
                None => segment.to_owned(),
                Some(name) => {
                    let parent = written
                        .iter()
                        .rfind(|known| known.operation.path == template);
                    let id = parent.and_then(|known| id_in(&known.answer, name));
                    escaped(&id.or_else(|| named_id(written, name))?)
                }
            };
            path = format!("{path}/{id}");
            template = format!("{template}/{segment}");
        }
        Some(path)
    }

    /// The path of an operation whose last part its caller may name.
    fn named(&self, operation: &Operation) -> String {
        let mut path = operation.path.clone();
        for name in operation.in_path() {
            let parameter = operation
                .parameters
                .iter()
                .find(|parameter| parameter.in_path && parameter.name == name);
            let schema = parameter.map_or(&Value::Null, |parameter| &parameter.schema);
            let value = in_text(&sample(self.contract, schema, &self.mark, Fill::All));
            path = path.replace(&format!("{{{name}}}"), &escaped(&value));
        }
        path
    }
}

fn note(list: &mut Vec<String>, line: String) {
    if !list.contains(&line) {
        list.push(line);
    }
}

fn skip(report: &mut Report, operation: &Operation, why: &str) {
    note(&mut report.untried, format!("{}: {why}", operation.name()));
}

/// Twelve characters that fit most names, and that nothing else has.
fn new_mark() -> String {
    let mut random = [0; 5];
    // Without randomness it would be the same each time, and still not one that data has by chance.
    let _ = SystemRandom::new().fill(&mut random);
    format!("gp{}", hex(&random))
}

/// The id under a name that stands for one thing alone, such as `note_id`.
fn named_id(written: &[Written<'_>], name: &str) -> Option<String> {
    let usual = ["id", "uuid", "key", "slug"].contains(&name);
    let mut answers = written.iter().rev().filter(|_| !usual);
    answers.find_map(|known| find(&known.answer.json()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_differ_and_fit_a_name() {
        let (one, two) = (new_mark(), new_mark());
        assert_ne!(one, two);
        assert_eq!(one.len(), 12);
    }
}
