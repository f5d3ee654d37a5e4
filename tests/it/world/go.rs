//! A client in Go, whose HTTP is its own in both versions: refusals, interim answers, `Expect`,
//! trailers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use serde_json::json;

use super::has;

const VERSIONS: [&str; 2] = ["1.1", "2"];

/// The client, built for this mesh alone; nothing where there is no Go.
struct Client<'a> {
    mesh: &'a TestMesh,
    program: PathBuf,
}

impl<'a> Client<'a> {
    fn of(mesh: &'a TestMesh) -> Option<Self> {
        if !has("go") {
            return None;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/world/client.go");
        let program = mesh.dir().join("client");
        let built = Command::new("go")
            .arg("build")
            .arg("-o")
            .args([&program, &source])
            .env("GOFLAGS", "-mod=mod")
            .env("GO111MODULE", "off") // one file, and nothing but Go's own library
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(built.status.success(), "{said}");
        Some(Self { mesh, program })
    }

    /// The lines that it says.
    fn says(&self, what: &str, version: &str) -> Vec<String> {
        let base = format!("https://localhost:{}", self.mesh.public().port());
        let output = Command::new(&self.program)
            .args([what, version, &base])
            .arg(self.mesh.public_root_file())
            .arg(self.mesh.signer.token_of("7", "42"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_refusal_reaches_go_however_much_it_uploads() {
    let mesh = TestMesh::new().start();
    let Some(client) = Client::of(&mesh) else {
        return;
    };
    for version in VERSIONS {
        let said = client.says("refused", version);
        assert_eq!(said, ["done"], "{version}: answers that were lost");
    }
    assert!(mesh.plugin.seen_at("/up").is_empty());
}

#[test]
fn go_hears_early_hints() {
    let mesh = TestMesh::new().start();
    let hinted = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    mesh.plugin.answer_raw("/hinted", hinted, Then::Keep);
    let Some(client) = Client::of(&mesh) else {
        return;
    };
    for version in VERSIONS {
        let said = client.says("hints", version);
        assert_eq!(said, ["103 </a.css>", "200 ok"], "{version}");
    }
}

#[test]
fn go_waits_for_its_100_and_sends_nothing_where_it_is_refused() {
    let mesh = TestMesh::new().start();
    let Some(client) = Client::of(&mesh) else {
        return;
    };
    for version in VERSIONS {
        let said = client.says("expects", version);
        assert_eq!(said, ["401 false 0", "200 true 300000"], "{version}");
    }
    let seen = mesh.plugin.seen_at("/up");
    let whole = |length: u64| length == 300_000;
    assert!(
        seen.len() == 2 && seen.iter().all(|seen| whole(seen.body_length)),
        "{seen:?}"
    );
}

#[test]
fn trailers_go_to_and_fro() {
    let fields = json!({"forward_headers": ["x-sum"]});
    let mesh = TestMesh::new().fields(fields).start();
    mesh.plugin.on("/trailed", |exchange| {
        exchange.read_body();
        exchange.write(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 456\r\nX-Company-Id: 9\r\n\r\n",
        );
        Then::Keep
    });
    let Some(client) = Client::of(&mesh) else {
        return;
    };
    for version in VERSIONS {
        assert_eq!(
            client.says("trailers", version),
            ["200 ok 456 true"],
            "{version}"
        );
    }
    for seen in mesh.plugin.seen_at("/trailed") {
        let sum = ("x-sum".to_owned(), "123".to_owned());
        assert_eq!(
            (seen.text().as_str(), &*seen.trailers),
            ("hello", &[sum][..])
        );
    }
}
