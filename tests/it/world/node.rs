//! A plugin in Node that has no sidecar verifies what the gateway signed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::signature::{Question, verify_all};

#[test]
fn the_verifier_in_node_takes_what_the_gateway_signed_and_nothing_else() {
    let probe = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("not tried: no node here");
        return;
    }
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/verify-signature/verify.mjs");
    let script = "const { isFromTheGateway } = await import(process.argv[1]);
console.log(JSON.stringify(JSON.parse(process.argv[2]).map((q) => isFromTheGateway(q.keys, q.plugin, q.method, q.target, q.headers, q.now))));";
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-e", script, "--"])
        .arg(file.canonicalize().unwrap());
    verify_all(&Question::new(), node);
}
