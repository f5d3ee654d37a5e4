//! Every field of a plugin file: its name, what it means and what it may hold.
//!
//! In: nothing. Out: the one table from which a reader takes the names it knows and its bounds, and
//! `schema` what editors are told, so that the two cannot drift apart (CONTRACT section 2). How a
//! value is read, and what two fields say of each other, is each reader's own.

/// One field of an object.
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether the object is nothing without it.
    pub(super) required: bool,
    /// What it means, in sentences, with its default.
    pub(super) docs: &'static str,
    /// What it may hold.
    pub(super) shape: Shape,
}

/// What a value may be.
pub(super) enum Shape {
    /// A string that this regular expression takes.
    Text(&'static str),
    /// One of these strings.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// `false`.
    Off,
    /// `null`.
    Nothing,
    /// A whole number within bounds.
    Whole(u64, u64),
    /// A list of so many at least and at most.
    List(&'static Shape, usize, usize),
    /// An object with these fields and no others.
    Object(&'static [Field]),
    /// An object with any names, so many at most.
    Map(&'static Shape, usize),
    /// Any of these.
    Either(&'static [Shape]),
}

/// The names of some fields.
pub(super) fn names(fields: &[Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

/// Whether a word is the name of a field of any table.
pub(super) fn is_word(word: &str) -> bool {
    let tables = [
        PLUGIN, INSTANCE, RULE, EXAMPLE, CALLER, TENANTS, CORS, RATE_LIMIT, CANARY, RETRY, HEALTH,
    ];
    let mut all = tables.into_iter().flatten();
    all.any(|field| field.name == word)
}

/// A day: whoever needs longer needs another shape of request.
pub(super) const TIMEOUT_MAX_MS: u64 = 86_400_000;

pub(super) const VERSION_MAX: usize = 128;

/// More addresses than this in one file are a mistake.
pub(super) const INSTANCES_MAX: usize = 256;

/// More rules than this are a program and no list.
pub(super) const RULES_MAX: usize = 2000;

/// More patterns than this would be looked through for every header of every request.
pub(super) const PATTERNS_MAX: usize = 64;

/// The hop takes 128 fields, a client may send 100, and the gateway adds up to 14 of its own: what
/// is let in at the door must not be refused behind it.
pub(super) const INJECTED_MAX: usize = 12;

/// A day: browsers forget earlier.
pub(super) const MAX_AGE_MAX: u64 = 86_400;

/// More origins, methods or headers than this are a mistake.
pub(super) const CORS_LIST_MAX: usize = 64;

/// More than a program has sockets for.
pub(super) const IN_FLIGHT_MAX: u64 = 1_000_000;

/// More than a gateway serves.
pub(super) const REQUESTS_MAX: u64 = 1_000_000_000;

/// A year.
pub(super) const PER_S_MAX: u64 = 366 * 86_400;

const ANY: Shape = Shape::Text("");
const NAMES: Shape = Shape::List(&Shape::Text("^[A-Za-z0-9-]+\\*?$"), 0, PATTERNS_MAX);
const COMPANY: Shape = Shape::Either(&[
    Shape::Text("^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"),
    Shape::Whole(1, u64::MAX),
]);
const COMPANIES: Shape = Shape::List(&COMPANY, 1, usize::MAX);
const SOME: Shape = Shape::List(&ANY, 1, usize::MAX);
const URL: Shape = Shape::Text("^(https?://|https\\+unix:/)");
const MODES: Shape = Shape::Word(&["gateway_verified", "forward_jwt", "public"]);
const UPSTREAM: Shape = Shape::Either(&[
    URL,
    Shape::List(
        &Shape::Either(&[URL, Shape::Object(INSTANCE)]),
        1,
        INSTANCES_MAX,
    ),
]);
const PATH: Shape = Shape::Text("^/");

const fn field(name: &'static str, shape: Shape, docs: &'static str) -> Field {
    Field {
        name,
        required: false,
        docs,
        shape,
    }
}

const fn required(name: &'static str, shape: Shape, docs: &'static str) -> Field {
    Field {
        name,
        required: true,
        docs,
        shape,
    }
}

/// Those of a file.
pub(super) const PLUGIN: &[Field] = &[
    required(
        "name",
        Shape::Text("^[a-z0-9][a-z0-9-]{0,62}$"),
        "The plugin's name, unique in the registry; also its default identity, plugin/NAME.",
    ),
    required(
        "version",
        Shape::Text("^[!-~]{1,128}$"),
        "What the operator believes runs there.",
    ),
    required(
        "mount",
        PATH,
        "The path prefix the plugin owns. Matches whole segments; the longest mount wins; / is the fallback.",
    ),
    required(
        "upstream",
        UPSTREAM,
        "Where it is reached: https://HOST:PORT is a sidecar, over mTLS; http://HOST:PORT is none. Or a list of them. No path, query or userinfo.",
    ),
    required(
        "auth_mode",
        MODES,
        "gateway_verified: the gateway verifies the token, drops it and sends the context headers. forward_jwt: the same, and the token goes on. public: no token is needed, and none goes on.",
    ),
    field(
        "keep_mount_prefix",
        Shape::Flag,
        "Forward the path with the mount still on it. Default: false.",
    ),
    field(
        "timeout_ms",
        Shape::Whole(1, TIMEOUT_MAX_MS),
        "From the request's last byte to the answer's last header; then 504. Default: 30000.",
    ),
    field(
        "forward_headers",
        NAMES,
        "The client's X-* headers that may pass; a last * stands for the rest of a name. Default: none.",
    ),
    field(
        "strip_headers",
        NAMES,
        "Further headers of the client's that are dropped; a last * stands for the rest of a name. Default: none.",
    ),
    field(
        "inject_headers",
        Shape::Map(&Shape::Text("^[ -~]*$"), INJECTED_MAX),
        "Fixed headers that replace the client's. The values are shown nowhere.",
    ),
    field(
        "verify",
        Shape::Flag,
        "false, with forward_jwt only: tokens of an issuer the gateway does not know, passed on unread, without context headers. Default: true.",
    ),
    field(
        "identity",
        Shape::Text("^(plugin/|spiffe://)"),
        "Whom the sidecar must prove to be: plugin/NAME, or the whole SPIFFE id in the gateway's own trust domain. Default: plugin/ and the name.",
    ),
    field(
        "plaintext_upstream",
        Shape::Flag,
        "Allow http:// beyond loopback. Default: false.",
    ),
    field(
        "allow",
        Shape::List(&Shape::Object(RULE), 1, RULES_MAX),
        "Who may do what: the first rule that matches decides, and none is 403. Default: everyone everything.",
    ),
    field(
        "tests",
        Shape::List(&Shape::Object(EXAMPLE), 0, usize::MAX),
        "What the rules must say, tried each time the file loads; one that fails keeps the file out.",
    ),
    field(
        "shadow",
        Shape::Flag,
        "Only count and log what allow and tenants would refuse. Default: false.",
    ),
    field(
        "tenants",
        Shape::Object(TENANTS),
        "Which companies may call; the others get 403. Default: all.",
    ),
    field(
        "cors",
        Shape::Object(CORS),
        "Which pages of other origins may read the answers. Default: none.",
    ),
    field(
        "ws_token",
        Shape::Flag,
        "A page's WebSocket may bring its token as the subprotocol bearer.TOKEN; needs cors. Default: false.",
    ),
    field(
        "outlive_token",
        Shape::Flag,
        "Upgraded and event streams may outlast the token they began with. Default: false.",
    ),
    field(
        "enabled",
        Shape::Flag,
        "false: the mount answers 503 upstream_unavailable. Default: true.",
    ),
    field(
        "rate_limit",
        Shape::Object(RATE_LIMIT),
        "How much a caller may send; over it 429. Default: no limit.",
    ),
    field(
        "max_in_flight",
        Shape::Whole(1, IN_FLIGHT_MAX),
        "Requests under way to the plugin from this gateway; above it they wait for a moment, one company after another in turn. Default: 256.",
    ),
    field(
        "max_body_bytes",
        Shape::Whole(0, u64::MAX),
        "The longest request body; over it 413. Default: the gateway's own limit.",
    ),
    field(
        "retry",
        Shape::Object(RETRY),
        "How often requests that are safe to repeat are tried again.",
    ),
    field(
        "health",
        Shape::Either(&[Shape::Off, Shape::Object(HEALTH)]),
        "How it is found out whether an instance is well; false: not at all.",
    ),
    field(
        "min_version",
        Shape::Text("^[0-9]+\\.[0-9]+\\.[0-9]+"),
        "An instance whose own /version says less, by semantic versioning, gets no requests. Default: any.",
    ),
    field(
        "canary",
        Shape::Object(CANARY),
        "Another upstream for some companies, or for copies. Default: none.",
    ),
    field(
        "openapi",
        Shape::Either(&[Shape::Off, PATH]),
        "Where the plugin serves its contract; false: it has none. Default: /openapi.json.",
    ),
    field(
        "openapi_breaking",
        Shape::Word(&["warn", "refuse"]),
        "What becomes of an instance whose contract breaks the one in force: warn tells of it, refuse keeps it out. Default: warn.",
    ),
    field(
        "envelope",
        Shape::Word(&["pass", "check", "wrap"]),
        "What is made of answers without the envelope: pass leaves them, check counts them, wrap puts bare errors into it. Default: pass.",
    ),
    field(
        "$schema",
        ANY,
        "The schema of this file, for editors; nothing else reads it.",
    ),
];

/// Those of an entry of `upstream`.
pub(super) const INSTANCE: &[Field] = &[
    required("url", URL, "The address."),
    field(
        "weight",
        Shape::Whole(0, u16::MAX as u64),
        "Its share of the requests. Default: 1.",
    ),
];

/// Those of an entry of `allow`.
pub(super) const RULE: &[Field] = &[
    field(
        "methods",
        SOME,
        "The methods it is about; GET includes HEAD. Default: all.",
    ),
    field(
        "path",
        PATH,
        "The path below the mount: literals, {name}, {company_id}, {user_id}, a last ** for all below. Default: all.",
    ),
    field("roles", SOME, "One of them is enough. Default: any."),
    field(
        "tenants",
        COMPANIES,
        "The companies it is about. Default: all.",
    ),
    field("scopes", SOME, "One of them is enough. Default: any."),
    field(
        "actors",
        Shape::Word(&["any", "none"]),
        "none: a caller who acts for somebody does not match. Default: any.",
    ),
    field(
        "effect",
        Shape::Word(&["allow", "deny"]),
        "What becomes of a request that matches. Default: allow.",
    ),
];

/// Those of an entry of `tests`.
pub(super) const EXAMPLE: &[Field] = &[
    required(
        "as",
        Shape::Either(&[Shape::Nothing, Shape::Object(CALLER)]),
        "Who calls; null: nobody who is known.",
    ),
    required(
        "request",
        Shape::Text("^[A-Z-]+ /"),
        "A method and a path below the mount, such as GET /reports/1.",
    ),
    required(
        "expect",
        Shape::Word(&["allow", "deny"]),
        "What the rules must say.",
    ),
];

/// Those of the caller of an example.
pub(super) const CALLER: &[Field] = &[
    field("company_id", COMPANY, "The company the caller acts for."),
    field(
        "user_id",
        Shape::Either(&[ANY, Shape::Whole(1, u64::MAX)]),
        "The user.",
    ),
    field(
        "roles",
        Shape::List(&ANY, 0, usize::MAX),
        "The caller's roles.",
    ),
    field(
        "scopes",
        Shape::List(&ANY, 0, usize::MAX),
        "The token's scopes.",
    ),
];

/// Those of `tenants`.
pub(super) const TENANTS: &[Field] = &[
    field("only", COMPANIES, "No other company may call."),
    field("except", COMPANIES, "Every other company may call."),
];

/// Those of `cors`.
pub(super) const CORS: &[Field] = &[
    required(
        "origins",
        Shape::List(&Shape::Text("^(\\*|https?://.+)$"), 1, CORS_LIST_MAX),
        "Whose pages, such as https://app.example.com; https://*.example.com stands for one label, * for all.",
    ),
    field(
        "methods",
        CORS_LIST,
        "What a page may do. Default: GET, HEAD, POST, PUT, PATCH, DELETE.",
    ),
    field(
        "headers",
        CORS_LIST,
        "What a page may send. Default: Authorization, Content-Type, X-Request-Id.",
    ),
    field(
        "expose",
        Shape::List(&ANY, 0, CORS_LIST_MAX),
        "What a page may read. Default: X-Request-Id, Retry-After and the RateLimit headers.",
    ),
    field(
        "max_age_s",
        Shape::Whole(0, MAX_AGE_MAX),
        "How long a browser may remember a preflight, in seconds. Default: 600.",
    ),
    field(
        "credentials",
        Shape::Flag,
        "Whether a browser may send its own credentials along; never with *. Default: false.",
    ),
];

const CORS_LIST: Shape = Shape::List(&ANY, 1, CORS_LIST_MAX);

/// Those of `rate_limit`.
pub(super) const RATE_LIMIT: &[Field] = &[
    required(
        "requests",
        Shape::Whole(1, REQUESTS_MAX),
        "So many requests.",
    ),
    required("per_s", Shape::Whole(1, PER_S_MAX), "In so many seconds."),
    field(
        "burst",
        Shape::Whole(1, REQUESTS_MAX),
        "So many at once. Default: as many as requests.",
    ),
    required(
        "key",
        Shape::Word(&["tenant", "user", "ip"]),
        "Whom it counts: each company, each user of each company, or each address.",
    ),
    field(
        "shadow",
        Shape::Flag,
        "Only count what is over the limit. Default: false.",
    ),
];

/// Those of `canary`.
pub(super) const CANARY: &[Field] = &[
    required("upstream", UPSTREAM, "Where it is reached."),
    field(
        "identity",
        Shape::Text("^(plugin/|spiffe://)"),
        "Whom its sidecars must prove to be. Default: plugin/ and the plugin's name.",
    ),
    field(
        "plaintext_upstream",
        Shape::Flag,
        "Allow http:// beyond loopback. Default: false.",
    ),
    field(
        "auth_mode",
        MODES,
        "Not weaker than the plugin's own. Default: the plugin's own.",
    ),
    field(
        "tenants",
        Shape::List(&COMPANY, 0, usize::MAX),
        "The companies that go there.",
    ),
    field(
        "percent",
        Shape::Whole(0, 100),
        "So many per cent of the others, by a stable hash of the company. Default: 0.",
    ),
    field(
        "mirror",
        Shape::Flag,
        "Send copies of GET and HEAD there instead, and compare the answers. Default: false.",
    ),
    field(
        "mirror_token",
        Shape::Flag,
        "Whether copies carry the token. Default: false.",
    ),
];

/// Those of `retry`.
pub(super) const RETRY: &[Field] = &[
    field("attempts", Shape::Whole(0, 10), "How often at most."),
    field(
        "budget_percent",
        Shape::Whole(0, 100),
        "Of all requests, how many may be repeated.",
    ),
];

/// Those of `health`.
pub(super) const HEALTH: &[Field] = &[
    field("path", PATH, "What is asked for. Default: /healthz."),
    field(
        "interval_ms",
        Shape::Whole(100, 3_600_000),
        "How often. Default: 1000.",
    ),
    field(
        "unhealthy_after",
        Shape::Whole(1, 1000),
        "So many failures in a row take an instance out. Default: 3.",
    ),
    field(
        "healthy_after",
        Shape::Whole(1, 1000),
        "So many good answers in a row bring it back. Default: 1.",
    ),
];
