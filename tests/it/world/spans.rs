//! A real collector: rotel (PyPI), which reads OTLP in JSON and writes in its log what it took.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;

use super::{python, run};

/// A running collector with all that it has written.
struct Rotel {
    child: Child,
    endpoint: String,
    written: Arc<Mutex<String>>,
}

impl Rotel {
    fn start(agent: &str) -> Self {
        // It takes no port 0; two that are free now are free a moment later.
        let ports = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [http, grpc] = ports.map(|port| port.local_addr().unwrap().to_string());
        let mut child = Command::new(agent)
            .args([
                "start",
                "--otlp-http-endpoint",
                &http,
                "--otlp-grpc-endpoint",
                &grpc,
            ])
            .args([
                "--exporter",
                "blackhole",
                "--debug-log",
                "traces",
                "--debug-log-verbosity",
                "detailed",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let written = Arc::<Mutex<String>>::default();
        let (stdout, kept) = (child.stdout.take().unwrap(), written.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(line.trim());
                kept.push('\n');
            }
        });
        eventually("the collector listens", || {
            std::net::TcpStream::connect(&http).ok()
        });
        Self {
            child,
            endpoint: format!("http://{http}"),
            written,
        }
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_collector_takes_every_span() {
    let Some(python) = python("rotel") else {
        return;
    };
    let find =
        "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
    let rotel = Rotel::start(&run(&python, find, &[]));
    let mesh = TestMesh::new()
        .invocations(|invocation, _| invocation.env("OTEL_EXPORTER_OTLP_ENDPOINT", &rotel.endpoint))
        .start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let given = format!("00-{trace}-00f067aa0ba902b7-01");
    let request = mesh.get("/echo/reports").token_of("7", "42");
    assert_eq!(request.header("traceparent", &given).send().status, 200);
    let text = eventually("all four spans in the collector's log", || {
        let text = rotel.written.lock().unwrap().clone();
        (text.matches(trace).count() >= 4).then_some(text)
    });
    for line in [
        "-> service.name: Str(gapura-gateway)",
        "-> service.name: Str(gapura-sidecar)",
        "Parent ID      : 00f067aa0ba902b7",
        "Name           : GET /echo",
        "-> http.response.status_code: Int(200)",
        "-> gapura.company_id: Str(42)",
        "-> http.route: Str(/echo)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    for kind in ["SPAN_KIND_SERVER", "SPAN_KIND_CLIENT"] {
        assert_eq!(text.matches(kind).count(), 2, "{kind} in\n{text}");
    }
    for program in [&mesh.gateway, &mesh.sidecar] {
        eventually("all were taken", || {
            (mesh.metric(program, "gapura_spans_exported_total") == 2.0).then_some(())
        });
        assert_eq!(mesh.metric(program, "gapura_spans_dropped_total"), 0.0);
    }
}
