//! `examples/tenant-notes` on a real PostgreSQL behind a real pgbouncer: it keeps companies apart,
//! and `gapura plugin test` finds the copies that do not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use gapura_tests::eventually;
use gapura_tests::program::{Ended, Invocation};

/// A database of its own in a folder of its own, which ends with the test.
struct Database {
    dir: tempfile::TempDir,
    bin: PathBuf,
    python: PathBuf,
    running: Vec<Child>,
}

/// A program that listens.
struct Plugin {
    child: Child,
    url: String,
    _out: BufReader<ChildStdout>,
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/tenant-notes")
        .join(file)
}

/// A command as a user that PostgreSQL runs as: never root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
        ])
        .arg(program);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

fn good(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out
}

impl Database {
    /// `None` where a piece is not installed, which is said.
    fn start() -> Option<Self> {
        let python = super::python("psycopg")?;
        let installed = fs::read_dir("/usr/lib/postgresql").ok();
        let mut versions: Vec<PathBuf> = installed
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
            .collect();
        versions.sort();
        let Some(bin) = versions.pop() else {
            println!("not tried: no PostgreSQL here");
            return None;
        };
        if !Path::new("/usr/sbin/pgbouncer").exists() {
            println!("not tried: no pgbouncer here");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            good(
                &Command::new("chown")
                    .arg("postgres")
                    .arg(dir.path())
                    .output()
                    .unwrap(),
            );
        }
        let mut database = Self {
            dir,
            bin,
            python,
            running: Vec::new(),
        };
        database.serve();
        Some(database)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn serve(&mut self) {
        let (data, folder) = (self.path("data"), self.path(""));
        let mut init = unprivileged(&self.bin.join("initdb"));
        init.args(["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"]);
        good(&init.current_dir("/").output().unwrap());
        let mut postgres = unprivileged(&self.bin.join("postgres"));
        postgres
            .args([
                "-D",
                &data,
                "-k",
                &folder,
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
            ])
            .args(["-c", "max_connections=20", "-c", "shared_buffers=16MB"]);
        self.keep(postgres);
        eventually("PostgreSQL answers", || {
            let asked = self.psql("postgres", &["-c", "SELECT 1"]);
            asked.status.success().then_some(())
        });
        good(&self.psql("postgres", &["-c", "CREATE DATABASE notes"]));
        let schema = example("schema.sql");
        good(&self.psql(
            "notes",
            &["-v", "ON_ERROR_STOP=1", "-f", schema.to_str().unwrap()],
        ));
        // One connection to the server, handed from one transaction to the next.
        let users = self.path("users.txt");
        fs::write(&users, "\"notes_app\" \"\"\n\"notes_owner\" \"\"\n").unwrap();
        let config = format!(
            "[databases]\nnotes = host={folder} port=5432 dbname=notes pool_size=1\n[pgbouncer]\npool_mode = transaction\nunix_socket_dir = {folder}\nlisten_port = 6432\nauth_type = trust\nauth_file = {users}\n"
        );
        fs::write(self.path("pgbouncer.ini"), config).unwrap();
        let mut pgbouncer = unprivileged(Path::new("/usr/sbin/pgbouncer"));
        pgbouncer.args(["-q", &self.path("pgbouncer.ini")]);
        self.keep(pgbouncer);
        let socket = self.dir.path().join(".s.PGSQL.6432");
        eventually("pgbouncer listens", || socket.exists().then_some(()));
    }

    fn keep(&mut self, mut command: Command) {
        let log = fs::File::create(self.path(&format!("log-{}", self.running.len()))).unwrap();
        let child = command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running.push(child);
    }

    fn psql(&self, database: &str, args: &[&str]) -> Output {
        Command::new(self.bin.join("psql"))
            .args([
                "-X",
                "-q",
                "-h",
                &self.path(""),
                "-U",
                "postgres",
                "-d",
                database,
            ])
            .args(args)
            .output()
            .unwrap()
    }

    fn sql(&self, text: &str) {
        good(&self.psql("notes", &["-v", "ON_ERROR_STOP=1", "-c", text]));
    }

    /// How a program reaches it through pgbouncer, as `user`.
    fn through_pool(&self, user: &str) -> String {
        format!("host={} port=6432 dbname=notes user={user}", self.path(""))
    }

    fn command(&self, code: &str, user: &str) -> Command {
        fs::write(self.path("tenant_notes.py"), code).unwrap();
        let mut command = Command::new(&self.python);
        command
            .args(["-B", &self.path("tenant_notes.py")])
            .env("NOTES_DATABASE", self.through_pool(user))
            .env("NOTES_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null());
        command
    }

    fn plugin(&self, code: &str, user: &str) -> Plugin {
        let mut child = self
            .command(code, user)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"));
        Plugin {
            url: format!("http://{address}"),
            child,
            _out: out,
        }
    }

    /// Runs a script with the sample's own module `notes`, through the pool.
    fn script(&self, text: &str) -> String {
        let folder = example("");
        let text = format!(
            "import sys; sys.path.insert(0, {folder:?})\nimport os, psycopg, notes\n{text}"
        );
        let mut command = self.command(&text, "notes_app");
        good(&command.output().unwrap())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        for mut child in self.running.drain(..).rev() {
            // At once, each in its own word: PostgreSQL by the first, pgbouncer by the second.
            let _ = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status();
            let _ = Command::new("kill")
                .args(["-TERM", &child.id().to_string()])
                .status();
            let _ = child.wait();
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sample() -> String {
    fs::read_to_string(example("notes.py")).unwrap()
}

fn changed(from: &str, to: &str) -> String {
    let text = sample();
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

fn tried(plugin: &Plugin) -> Ended {
    Invocation::new()
        .args(&[
            "plugin",
            "test",
            &plugin.url,
            "--openapi",
            example("openapi.json").to_str().unwrap(),
        ])
        .args(&["--as", "company=42,user=7", "--as", "company=7,user=9"])
        .run("gapura")
}

const ROUTES: [&str; 4] = [
    "GET /notes",
    "GET /notes/{id}",
    "PUT /notes/{id}",
    "DELETE /notes/{id}",
];

#[test]
fn the_sample_keeps_companies_apart_and_a_copy_without_the_filter_is_found_out() {
    let Some(database) = Database::start() else {
        return;
    };
    let plugin = database.plugin(&sample(), "notes_app");
    let ended = tried(&plugin);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for route in ROUTES.iter().chain(&["POST /notes"]) {
        assert!(
            ended.stdout.contains(&format!("tried:     {route}\n")),
            "{}",
            ended.stdout
        );
    }
    drop(plugin);
    let copy = changed(
        "(company,))\n        yield",
        "(\"everyone\",))\n        yield",
    );
    let ended = tried(&database.plugin(&copy, "notes_app"));
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    for route in ROUTES {
        let leak = format!("LEAK:      {route}: company 7 ");
        assert!(ended.stdout.contains(&leak), "{route}: {}", ended.stdout);
    }
}

#[test]
fn a_setting_of_the_session_goes_with_the_pools_connection_and_one_of_the_transaction_does_not() {
    let Some(database) = Database::start() else {
        return;
    };
    let seen = database.script(
        "
for company in ['42', '7']:
    with notes.transaction(company) as db:
        db.execute('INSERT INTO notes (author, title, text) VALUES (%s, %s, %s)', ('a', 'of ' + company, ''))
connect = lambda: psycopg.connect(os.environ['NOTES_DATABASE'], autocommit=True, prepare_threshold=None)
titles = lambda db: sorted(row[0] for row in db.execute('SELECT title FROM notes').fetchall())
# As the sample does it: each sees its own, and the next on the same connection sees nothing.
own = []
for company in ['42', '7']:
    with notes.transaction(company) as db:
        own += [row['title'] for row in db.execute('SELECT title FROM notes').fetchall()]
with connect() as next_one:
    after = titles(next_one)
# The trap: two clients, one server connection, a SET each.
one, two = connect(), connect()
one.execute(\"SET app.company_id = '42'\")
two.execute(\"SET app.company_id = '7'\")
print(own, after, titles(one))
one.execute('RESET app.company_id')
",
    );
    assert_eq!(
        seen.trim(),
        "['of 42', 'of 7'] [] ['of 7']",
        "company 42 got what is of 7"
    );
    // And the copy that does it is found out.
    let copy = changed(
        "%s, true)\", (company,))",
        "%s, false)\", (company,)); connection.commit()",
    );
    let copy = copy.replace(
        "            raise Wrong(400, \"The request acts for no company.\")",
        "            raise Wrong(400, \"The request acts for no company.\")\n        if self.command == \"GET\": return list_of_whoever_was_last()",
    );
    let copy = copy.replace(
        "class Wrong",
        "def list_of_whoever_was_last():\n    with psycopg.connect(DATABASE, row_factory=dict_row, prepare_threshold=None) as db:\n        return 200, db.execute(\"SELECT * FROM notes\").fetchall()\n\n\nclass Wrong",
    );
    let ended = tried(&database.plugin(&copy, "notes_app"));
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended
            .stdout
            .contains("LEAK:      GET /notes: company 7 saw"),
        "{}",
        ended.stdout
    );
}

#[test]
fn the_owner_is_bound_by_force_alone_and_the_sample_starts_on_nothing_less() {
    let Some(database) = Database::start() else {
        return;
    };
    database.sql("ALTER ROLE notes_owner LOGIN");
    database.sql("INSERT INTO notes (company_id, author, title, text) VALUES ('42', 'a', 'of 42', ''), ('7', 'a', 'of 7', '')");
    let as_owner = "SET SESSION AUTHORIZATION notes_owner; SET app.company_id = '42'; SELECT count(*) FROM notes";
    let count = |database: &Database| {
        let asked = database.psql("notes", &["-A", "-t", "-c", as_owner]);
        good(&asked).trim().to_owned()
    };
    assert_eq!(count(&database), "1", "forced");
    database.sql("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY");
    assert_eq!(count(&database), "2", "the owner sees every company");
    let refused = |database: &Database, user: &str, says: &str| {
        let output = database.command(&sample(), user).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{said}");
    };
    refused(&database, "notes_app", "is not enabled and forced");
    // The same copy without that look at the start shows what it is for.
    let copy = changed(
        "    refuse_a_database_that_would_not_keep_companies_apart()\n",
        "",
    );
    let ended = tried(&database.plugin(&copy, "notes_owner"));
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    database.sql("ALTER TABLE notes FORCE ROW LEVEL SECURITY");
    let ended = tried(&database.plugin(&copy, "notes_owner"));
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    database.sql("ALTER ROLE notes_app BYPASSRLS");
    refused(&database, "notes_app", "has BYPASSRLS");
}
