//! Clients of other languages, with their own ideas of how a body ends.

use gapura_tests::mesh::TestMesh;

use super::{python, run};

/// The port, the root file and a token, as every script here takes them.
fn args(mesh: &TestMesh) -> [String; 3] {
    [
        mesh.public().port().to_string(),
        mesh.public_root_file().to_str().unwrap().to_owned(),
        mesh.signer.token_of("7", "42"),
    ]
}

#[test]
fn requests_sends_bodies_of_every_kind() {
    let Some(python) = python("requests") else {
        return;
    };
    let mesh = TestMesh::new().start();
    let script = "
import io, requests, sys
port, root, token = sys.argv[1:]
s = requests.Session()
s.verify, s.trust_env = root, False
s.headers['Authorization'] = 'Bearer ' + token
url = f'https://localhost:{port}/echo/'
def chunks():
    yield b'some '
    yield b'chunks'
for method, body in [('GET', None), ('POST', None), ('POST', ''), ('PUT', 'x' * 100000), ('POST', chunks()), ('DELETE', None)]:
    r = s.request(method, url + 'r', data=body, timeout=30)
    assert r.status_code == 200 and r.json()['ok'] is True, (method, body, r.status_code, r.text)
    assert r.headers['X-Request-Id']
r = s.head(url + 'r', timeout=30)
assert r.status_code == 200 and r.content == b''
del s.headers['Authorization']
r = s.get(url, timeout=30)
print(r.status_code, r.json()['errors']['code'])
";
    let args = args(&mesh);
    let said = run(&python, script, &args.each_ref().map(String::as_str));
    assert_eq!(said, "401 token_missing");
    let seen = mesh.plugin.seen_at("/r");
    let lengths: Vec<_> = seen.iter().map(|seen| seen.body_length).collect();
    assert_eq!(lengths, [0, 0, 0, 100_000, 11, 0, 0], "{seen:?}");
    assert!(seen.iter().all(|seen| seen.complete));
}

#[test]
fn a_refusal_reaches_requests_however_much_it_uploads() {
    let Some(python) = python("requests") else {
        return;
    };
    let mesh = TestMesh::new().start();
    let script = "
import requests, sys
port, root, token = sys.argv[1:]
lost = []
for size in (3, 300_000, 5_000_000):
    for n in range(20):
        s = requests.Session()
        s.verify, s.trust_env = root, False
        try:
            r = s.post(f'https://localhost:{port}/echo/up', data=b'a' * size, timeout=30)
            assert (r.status_code, r.json()['errors']['code']) == (401, 'token_missing'), r.text
        except requests.RequestException as e:
            lost.append((size, n, str(e)))
print(lost)
";
    let args = args(&mesh);
    let said = run(&python, script, &args.each_ref().map(String::as_str));
    assert_eq!(said, "[]", "answers that were lost");
    assert!(mesh.plugin.seen_at("/up").is_empty());
}

#[test]
fn httpx_sends_bodies_of_every_kind_over_http2() {
    let Some(python) = python("httpx") else {
        return;
    };
    let mesh = TestMesh::new().start();
    let script = "
import httpx, ssl, sys
port, root, token = sys.argv[1:]
def chunks():
    yield b'some '
    yield b'chunks'
with httpx.Client(http2=True, verify=ssl.create_default_context(cafile=root), headers={'Authorization': 'Bearer ' + token}, timeout=30) as c:
    for method, body in [('POST', None), ('POST', b''), ('POST', b'abc'), ('PUT', b'x' * 300_000), ('POST', chunks()), ('DELETE', b'why'), ('GET', b'a query')]:
        r = c.request(method, f'https://localhost:{port}/echo/b', content=body)
        assert (r.http_version, r.status_code) == ('HTTP/2', 200), (method, r, r.text)
    r = c.head(f'https://localhost:{port}/echo/b')
    assert r.status_code == 200 and r.content == b''
    r = c.post(f'https://localhost:{port}/echo/b', content=b'x' * 300_000, headers={'Authorization': ''})
    print(r.status_code, r.json()['errors']['code'])
";
    let args = args(&mesh);
    let said = run(&python, script, &args.each_ref().map(String::as_str));
    assert_eq!(said, "401 token_missing");
    let seen = mesh.plugin.seen_at("/b");
    let lengths: Vec<_> = seen.iter().map(|seen| seen.body_length).collect();
    assert_eq!(lengths, [0, 0, 3, 300_000, 11, 3, 7, 0], "each once, whole");
    assert!(seen.iter().all(|seen| seen.complete));
}

#[test]
fn httpx_reads_over_http2() {
    let Some(python) = python("httpx") else {
        return;
    };
    let mesh = TestMesh::new().start();
    let script = "
import httpx, ssl, sys
port, root, token = sys.argv[1:]
with httpx.Client(http2=True, verify=ssl.create_default_context(cafile=root), headers={'Authorization': 'Bearer ' + token}, timeout=30) as c:
    for n in range(3):
        r = c.get(f'https://localhost:{port}/echo/n{n}')
        assert (r.http_version, r.status_code) == ('HTTP/2', 200), r
        assert r.json()['ok'] is True
print('good')
";
    let args = args(&mesh);
    let said = run(&python, script, &args.each_ref().map(String::as_str));
    assert_eq!(said, "good");
    assert_eq!(mesh.plugin.seen().len(), 3);
}
