//! The rows: one SQLite connection on a thread of its own.
//!
//! In: jobs, each for one [`Company`]. Out: rows of that company and no other; every statement here
//! binds it. SQLite blocks, so no job runs on the async side, and the queue is bounded: a full one
//! is [`StoreError::Busy`], not a longer wait.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use crate::company::Company;
use crate::report::{NewReport, Page, Report, Summary};

/// Where the rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// In memory, gone with the process.
    Memory,
    /// In this file, made if it's not there.
    File(PathBuf),
}

/// The handle of the database's thread; the thread ends with its last clone.
#[derive(Clone)]
pub(crate) struct Store {
    jobs: SyncSender<Job>,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What became of a new report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Report(Report),
    /// The company has a report of that number.
    Duplicate,
}

/// Part of a company's reports, and where the next part begins.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Listed {
    pub(crate) reports: Vec<Summary>,
    pub(crate) next_after: Option<i64>,
}

/// Why there are no rows.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// More requests than the disk keeps up with.
    Busy,
    /// The thread is gone.
    Gone,
    Sqlite(rusqlite::Error),
}

/// Jobs that wait: at some tenths of a millisecond each, the last waits about as long as a person
/// notices.
const WAITING_JOBS: usize = 256;

/// Numbers are unique within a company: whether another one has the number must not show.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS reports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    company_id TEXT NOT NULL,
    number TEXT,
    title TEXT NOT NULL,
    patient TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    created_by TEXT,
    UNIQUE (company_id, number)
) STRICT;
CREATE INDEX IF NOT EXISTS reports_of_a_company ON reports (company_id, id);
";

/// `INSERT OR IGNORE` would use up an id for each row it ignores.
const SEED: &str = "
INSERT INTO reports (company_id, number, title, patient, body)
SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM reports WHERE company_id = ?1 AND number = ?2)
";

/// Reports to try things with: company, number, title, patient, body.
const SEEDS: [[&str; 5]; 5] = [
    [
        "42",
        "S-1001",
        "Blood count",
        "Patient A",
        "Haemoglobin 13.9 g/dl, leucocytes 6.1 /nl, platelets 240 /nl",
    ],
    [
        "42",
        "S-1002",
        "Lipid panel",
        "Patient B",
        "LDL 98 mg/dl, HDL 55 mg/dl, triglycerides 120 mg/dl",
    ],
    ["42", "S-1003", "Thyroid", "Patient C", "TSH 1.8 mU/l"],
    [
        "7",
        "S-1001",
        "Urine culture",
        "Patient X",
        "No growth after 48 h",
    ],
    [
        "7",
        "S-1002",
        "Kidney",
        "Patient Y",
        "Creatinine 0.9 mg/dl, eGFR 94 ml/min",
    ],
];

impl Store {
    /// Opens the database, makes the table if it is not there, and starts the thread.
    pub(crate) fn open(database: &Database, seed: bool) -> Result<Self, StoreError> {
        let mut connection = match database {
            Database::Memory => Connection::open_in_memory()?,
            Database::File(path) => Connection::open(path)?,
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(SCHEMA)?;
        if seed {
            for report in SEEDS {
                connection.execute(SEED, report)?;
            }
        }
        let (jobs, waiting) = sync_channel::<Job>(WAITING_JOBS);
        std::thread::Builder::new()
            .name("lab-database".into())
            .spawn(move || {
                while let Ok(job) = waiting.recv() {
                    job(&mut connection);
                }
            })
            .map_err(|_| StoreError::Gone)?;
        Ok(Self { jobs })
    }

    pub(crate) async fn list(&self, company: Company, page: Page) -> Result<Listed, StoreError> {
        self.call(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, number, title, patient, created_at FROM reports WHERE company_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            )?;
            // One more than asked for tells whether there is a next page.
            let rows = query.query_map(params![company.as_str(), page.after, page.limit + 1], summary)?;
            let mut reports = rows.collect::<Result<Vec<_>, _>>()?;
            let more = reports.len() > page.limit as usize;
            reports.truncate(page.limit as usize);
            let next_after = if more { reports.last().map(|last| last.id) } else { None };
            Ok(Listed { reports, next_after })
        })
        .await
    }

    pub(crate) async fn find(
        &self,
        company: Company,
        id: i64,
    ) -> Result<Option<Report>, StoreError> {
        self.call(move |connection| read(connection, &company, id))
            .await
    }

    pub(crate) async fn add(
        &self,
        company: Company,
        new: NewReport,
        by: Option<String>,
    ) -> Result<Added, StoreError> {
        self.call(move |connection| {
            let added = connection.execute(
                "INSERT INTO reports (company_id, number, title, patient, body, created_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![company.as_str(), new.number, new.title, new.patient, new.body, by],
            );
            match added {
                Ok(_) => {
                    let id = connection.last_insert_rowid();
                    read(connection, &company, id)?.map(Added::Report).ok_or(rusqlite::Error::QueryReturnedNoRows)
                }
                Err(rusqlite::Error::SqliteFailure(err, _)) if err.code == ErrorCode::ConstraintViolation => Ok(Added::Duplicate),
                Err(err) => Err(err),
            }
        })
        .await
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.call(|connection| connection.query_row("SELECT 1", [], |_| Ok(())))
            .await
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !answer.is_closed() {
                let _ = answer.send(job(connection)); // whoever asked may have left by now
            }
        });
        self.jobs.try_send(job).map_err(|err| match err {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Gone,
        })?;
        Ok(answered.await.map_err(|_| StoreError::Gone)??)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        Self::Sqlite(err)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the database has more to do than it keeps up with"),
            Self::Gone => f.write_str("the database's thread is gone"),
            // Extended messages can quote values of a row; the code never does.
            Self::Sqlite(rusqlite::Error::SqliteFailure(err, _)) => {
                write!(f, "the database failed: {err}")
            }
            Self::Sqlite(_) => f.write_str("the database gave an unexpected answer"),
        }
    }
}

impl std::error::Error for StoreError {}

fn read(
    connection: &Connection,
    company: &Company,
    id: i64,
) -> Result<Option<Report>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT id, number, title, patient, body, created_at, created_by FROM reports WHERE company_id = ?1 AND id = ?2")?
        .query_row(params![company.as_str(), id], |row| {
            Ok(Report {
                id: row.get(0)?,
                number: row.get(1)?,
                title: row.get(2)?,
                patient: row.get(3)?,
                body: row.get(4)?,
                created_at: row.get(5)?,
                created_by: row.get(6)?,
            })
        })
        .optional()
}

fn summary(row: &Row<'_>) -> Result<Summary, rusqlite::Error> {
    Ok(Summary {
        id: row.get(0)?,
        number: row.get(1)?,
        title: row.get(2)?,
        patient: row.get(3)?,
        created_at: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: &str) -> NewReport {
        NewReport {
            number: Some(number.to_owned()),
            title: "t".to_owned(),
            patient: "p".to_owned(),
            body: "b".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_number_is_unique_within_a_company_only() {
        let store = Store::open(&Database::Memory, false).unwrap();
        let (ours, theirs) = (Company::named("42"), Company::named("7"));
        let Added::Report(first) = store.add(ours.clone(), report("N-1"), None).await.unwrap()
        else {
            panic!("refused")
        };
        assert_eq!(
            store.add(ours.clone(), report("N-1"), None).await.unwrap(),
            Added::Duplicate
        );
        assert!(matches!(
            store
                .add(theirs.clone(), report("N-1"), None)
                .await
                .unwrap(),
            Added::Report(_)
        ));
        assert_eq!(
            store.find(ours, first.id).await.unwrap(),
            Some(first.clone())
        );
        assert_eq!(store.find(theirs, first.id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn seeding_twice_adds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = Database::File(folder.path().join("lab.db"));
        drop(Store::open(&file, true).unwrap());
        let store = Store::open(&file, true).unwrap();
        let listed = store
            .list(
                Company::named("42"),
                Page {
                    limit: 100,
                    after: 0,
                },
            )
            .await
            .unwrap();
        assert_eq!(listed.reports.len(), 3);
        assert_eq!(listed.next_after, None);
        let Added::Report(next) = store
            .add(Company::named("42"), report("N-1"), None)
            .await
            .unwrap()
        else {
            panic!("refused")
        };
        assert_eq!(next.id, 6, "seeding again used up ids");
    }

    #[tokio::test]
    async fn a_full_queue_is_told_at_once() {
        let store = Store::open(&Database::Memory, false).unwrap();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        store
            .jobs
            .try_send(Box::new(move |_| {
                let _ = began.send(());
                let _ = gone.recv();
            }))
            .unwrap();
        begun.await.unwrap();
        while store.jobs.try_send(Box::new(|_| ())).is_ok() {}
        assert!(matches!(store.ping().await, Err(StoreError::Busy)));
        drop(go);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while store.ping().await.is_err() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the queue never emptied"
            );
            tokio::task::yield_now().await;
        }
    }
}
