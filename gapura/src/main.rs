//! Flags, signals and exit codes of the command `gapura`.

use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Parser, Subcommand};
use gapura::Error;
use gapura::health::Health;
use gapura::plugin_test::Caller;
use gapura::prove::{ProveFlags, prove};
use gapura::status::Status;
use gapura::tap::Wanted;
use gapura::token::{Issuer, Subject};
use gapura::up::{Options, OwnPlugin, Up};
use gapura_fetch::Url;
use gapura_gateway::inspection::{
    self, ClaimNames, ClaimPath, HmacAlgorithm, IssuerName, IssuerSettings, KeySource, Settings,
};
use gapura_protocol::clock::Clock;
use gapura_settings::{AdminAddress, AdminSide, address, duration};
use gapura_telemetry::tap::Statuses;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A front door for plugins: a token goes in, a trusted tenant header comes out, over mutual TLS.
#[derive(Parser)]
#[command(name = "gapura", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the whole mesh on this machine, with nothing set up.
    #[command(
        after_help = "Example, with your own plugin behind it:\n  gapura up --plugin orders=http://127.0.0.1:5000"
    )]
    Up(UpFlags),
    /// Makes a token for the mesh that `gapura up` runs; `gapura token inspect` looks into any.
    #[command(
        after_help = "Example:\n  gapura token --company 42 --user 7 --role admin --ttl 8h",
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true
    )]
    Token(TokenCommand),
    /// Makes the front door's development keys without starting anything: for containers, where
    /// each program runs alone.
    #[command(
        after_help = "Example:\n  gapura keys --state /keys --door /door; gapura keys --state /keys --ca > ca.pem"
    )]
    Keys(KeysFlags),
    /// Fires the known attacks at your own door and tells which of them it held; exit 1 if one did
    /// not hold.
    #[command(
        after_help = "Example, with the plugin mounted at /prove:\n  gapura prove --plugin --listen 127.0.0.1:19080\n  gapura prove https://localhost:8443/prove --ca ca.pem --token-file token"
    )]
    Prove(ProveFlags),
    /// Tries a plugin that is being written.
    Plugin(PluginCommand),
    /// Asks running programs how they are. Exit 0: well, 3: something wants to be mended, 4: not
    /// ready, or no answer.
    #[command(
        after_help = "Example:\n  gapura status --admin 127.0.0.1:9901 --admin 127.0.0.1:19901"
    )]
    Status(StatusFlags),
    /// Shows finished requests of a running program as they end, until Ctrl-C.
    #[command(after_help = "Example:\n  gapura tap --plugin orders --status 5xx --slow 200ms")]
    Tap(TapFlags),
}

#[derive(clap::Args)]
struct TapFlags {
    /// Where the operator's side listens, or unix:PATH.
    #[arg(long, env = "GAPURA_ADMIN", default_value = "127.0.0.1:9901", value_name = "ADDR", value_parser = AdminAddress::parse)]
    admin: AdminAddress,
    /// The file that holds the token it asks for.
    #[arg(long, env = "GAPURA_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Only requests for this plugin; `none` for those that no plugin takes.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Only requests that act for this company.
    #[arg(long, value_name = "ID")]
    company: Option<String>,
    /// Only requests that ended with this status, or of this class: 404 or 5xx.
    #[arg(long, value_name = "STATUS", value_parser = status_text)]
    status: Option<String>,
    /// Only requests that took so long or longer, for example 200ms.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    slow: Option<Duration>,
    /// Prints each as the JSON object that it is in the access log.
    #[arg(long)]
    json: bool,
}

/// As it was written, if the program will take it.
fn status_text(text: &str) -> Result<String, String> {
    Statuses::parse(text).map(|_| text.to_owned())
}

#[derive(clap::Args)]
struct StatusFlags {
    /// Where an operator's side listens, or unix:PATH; may be given several times.
    #[arg(long, env = "GAPURA_ADMIN", default_value = "127.0.0.1:9901", value_delimiter = ',', value_name = "ADDR", value_parser = AdminAddress::parse)]
    admin: Vec<AdminAddress>,
    /// The file that holds the token they ask for.
    #[arg(long, env = "GAPURA_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Prints one JSON object a program.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct UpFlags {
    /// Where the front door listens.
    #[arg(long, env = "GAPURA_LISTEN", default_value = "127.0.0.1:8443", value_name = "ADDRESS:PORT", value_parser = address)]
    listen: SocketAddr,
    /// Where the admin side listens.
    #[arg(long, env = "GAPURA_ADMIN", default_value = "127.0.0.1:9901", value_name = "ADDRESS:PORT", value_parser = address)]
    admin: SocketAddr,
    /// The folder for keys, certificates, tokens, reports and logs.
    #[arg(
        long,
        env = "GAPURA_STATE",
        default_value = ".gapura",
        value_name = "DIR"
    )]
    state: PathBuf,
    /// A plugin of your own, as in orders=http://127.0.0.1:5000; may be given several times.
    /// Mounted at /v1/plugins/NAME.
    #[arg(
        long = "plugin",
        env = "GAPURA_PLUGIN",
        value_name = "NAME=URL",
        value_delimiter = ','
    )]
    plugins: Vec<OwnPlugin>,
    /// Lets the front door be reached from other machines, although its keys are for development.
    #[arg(long, env = "GAPURA_EXPOSE_DEV_KEYS", value_parser = FalseyValueParser::new())]
    expose_dev_keys: bool,
    /// Writes the programs' lines to standard output (and the screen to standard error) instead of
    /// files in the state folder.
    #[arg(long, env = "GAPURA_LOGS", value_parser = FalseyValueParser::new())]
    logs: bool,
}

#[derive(clap::Args)]
struct TokenCommand {
    #[command(subcommand)]
    command: Option<TokenSubcommand>,
    #[command(flatten)]
    make: Option<TokenFlags>,
}

#[derive(Subcommand)]
enum TokenSubcommand {
    /// Says in words what a token says and why it would be refused, offline. Exit 1 if it would be.
    #[command(
        after_help = "Example:\n  gapura token inspect token.txt --jwks jwks.json --issuer https://id.example --audience lab"
    )]
    Inspect(InspectFlags),
}

#[derive(clap::Args)]
struct InspectFlags {
    /// The file that holds the token; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A file with the issuer's JWK set, or its public keys in PEM.
    #[arg(long, env = "GAPURA_JWKS", value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// A file with the issuer's shared secret.
    #[arg(
        long,
        env = "GAPURA_JWT_SECRET_FILE",
        value_name = "FILE",
        conflicts_with = "jwks"
    )]
    jwt_secret_file: Option<PathBuf>,
    /// The algorithm of the shared secret.
    #[arg(
        long,
        env = "GAPURA_JWT_SECRET_ALG",
        default_value = "HS256",
        value_name = "ALG"
    )]
    jwt_secret_alg: HmacAlgorithm,
    /// What `iss` must be.
    #[arg(long, env = "GAPURA_ISSUER", value_name = "TEXT")]
    issuer: Option<IssuerName>,
    /// What `aud` must name; may be given several times.
    #[arg(
        long,
        env = "GAPURA_AUDIENCE",
        value_delimiter = ',',
        value_name = "TEXT"
    )]
    audience: Vec<String>,
    /// The claim, or JSON pointer, of the user.
    #[arg(long, env = "GAPURA_USER_CLAIM", value_name = "CLAIM")]
    user_claim: Option<ClaimPath>,
    /// The claim, or JSON pointer, of the company.
    #[arg(long, env = "GAPURA_TENANT_CLAIM", value_name = "CLAIM")]
    tenant_claim: Option<ClaimPath>,
    /// The claim, or JSON pointer, of the roles.
    #[arg(long, env = "GAPURA_ROLE_CLAIM", value_name = "CLAIM")]
    role_claim: Option<ClaimPath>,
}

#[derive(clap::Args)]
struct TokenFlags {
    /// The company the token acts for.
    #[arg(long, env = "GAPURA_COMPANY", value_name = "ID")]
    company: String,
    /// The user it acts for.
    #[arg(long, env = "GAPURA_USER", value_name = "ID")]
    user: String,
    /// A role of the user; may be given several times, or not at all.
    #[arg(
        long = "role",
        env = "GAPURA_ROLE",
        value_delimiter = ',',
        value_name = "ROLE"
    )]
    roles: Vec<String>,
    /// How long it lasts, 24h at most.
    #[arg(long, env = "GAPURA_TTL", default_value = "1h", value_name = "DURATION", value_parser = duration)]
    ttl: Duration,
    /// The state folder of the `gapura up` that shall take it.
    #[arg(
        long,
        env = "GAPURA_STATE",
        default_value = ".gapura",
        value_name = "DIR"
    )]
    state: PathBuf,
}

#[derive(clap::Args)]
struct PluginCommand {
    #[command(subcommand)]
    command: PluginSubcommand,
}

#[derive(Subcommand)]
enum PluginSubcommand {
    /// Writes as one company and reads as another over every documented route. Exit 1 if one ever
    /// met what is the other's.
    #[command(
        after_help = "Example:\n  gapura plugin test http://127.0.0.1:5000 --openapi openapi.json --as company=42,user=7 --as company=7,user=9\n\nIt writes to the plugin, and removes what it wrote where the document has a DELETE: give it a database for tests."
    )]
    Test(PluginTestFlags),
}

#[derive(clap::Args)]
struct PluginTestFlags {
    /// Where the plugin itself listens, behind its sidecar.
    #[arg(value_name = "URL", value_parser = Url::parse)]
    url: Url,
    /// The plugin's OpenAPI document, in JSON [default: what it serves at /openapi.json].
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
    /// Whom a request acts for; give two companies or more.
    #[arg(
        long = "as",
        value_name = "company=ID,user=ID[,role=ROLE]",
        required = true
    )]
    callers: Vec<Caller>,
}

#[derive(clap::Args)]
struct KeysFlags {
    /// The folder for them.
    #[arg(
        long,
        env = "GAPURA_STATE",
        default_value = ".gapura",
        value_name = "DIR"
    )]
    state: PathBuf,
    /// A folder for a copy of what the gateway reads, so that it never sees the key that signs
    /// tokens.
    #[arg(long, env = "GAPURA_DOOR", value_name = "DIR")]
    door: Option<PathBuf>,
    /// Writes the root certificate to standard output, for curl --cacert.
    #[arg(long)]
    ca: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(flags) => up(flags),
        Command::Token(TokenCommand {
            command: Some(TokenSubcommand::Inspect(flags)),
            ..
        }) => inspect(flags),
        Command::Token(TokenCommand {
            command: None,
            make,
        }) => make.map_or_else(
            || Err(Error::Refused("give --company and --user".to_owned())),
            |flags| token(&flags),
        ),
        Command::Keys(flags) => keys(&flags),
        Command::Prove(flags) => prove(flags),
        Command::Plugin(PluginCommand {
            command: PluginSubcommand::Test(flags),
        }) => plugin_test(&flags),
        Command::Status(flags) => status(flags),
        Command::Tap(flags) => tap(flags),
    };
    match done {
        Ok(code) => code,
        Err(err) => {
            print_note(&format!("gapura: {err}"));
            ExitCode::from(err.exit_code())
        }
    }
}

fn token(flags: &TokenFlags) -> Result<ExitCode, Error> {
    let subject = Subject::new(&flags.company, &flags.user, &flags.roles)?;
    let token = Issuer::open(&flags.state)?.token(&subject, Clock::system().unix(), flags.ttl)?;
    writeln!(std::io::stdout(), "{token}")
        .map_err(|err| Error::Failed(format!("can't write the token: {err}")))?;
    Ok(ExitCode::SUCCESS)
}

/// The longest text that is looked into: whatever is longer is no token, and no token is longer.
const TOKEN_FILE_MAX: u64 = 64 * 1024;

fn inspect(flags: InspectFlags) -> Result<ExitCode, Error> {
    let told =
        |err: std::io::Error| Error::Failed(format!("can't read {}: {err}", flags.file.display()));
    let mut text = String::new();
    if flags.file.as_os_str() == "-" {
        std::io::stdin()
            .take(TOKEN_FILE_MAX)
            .read_to_string(&mut text)
            .map_err(told)?;
    } else {
        let file = std::fs::File::open(&flags.file).map_err(told)?;
        file.take(TOKEN_FILE_MAX)
            .read_to_string(&mut text)
            .map_err(told)?;
    }
    let token = text.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
    let defaults = ClaimNames::default();
    let source = match (flags.jwks, flags.jwt_secret_file) {
        (Some(path), _) => Some(KeySource::JwksFile(path)),
        (None, Some(path)) => Some(KeySource::SecretFile {
            path,
            algorithm: flags.jwt_secret_alg,
        }),
        (None, None) => None,
    };
    let settings = Settings {
        issuers: source
            .map(|source| IssuerSettings {
                issuer: flags.issuer,
                audience: flags.audience,
                ..IssuerSettings::new(source)
            })
            .into_iter()
            .collect(),
        claims: ClaimNames {
            user: flags.user_claim,
            tenant: flags.tenant_claim.unwrap_or(defaults.tenant),
            role: flags.role_claim.unwrap_or(defaults.role),
        },
        ..Settings::default()
    };
    let found = inspection::inspect(token, settings, Clock::system().unix());
    let found = found.map_err(|faults| Error::Refused(faults.join("\n")))?;
    let lines = found.says.iter().map(|line| format!("  {line}\n"));
    let refused = found
        .refused
        .iter()
        .map(|line| format!("refused: {line}\n"));
    let open = found
        .open
        .iter()
        .map(|line| format!("not known here: {line}\n"));
    let mut text: String = lines.chain(refused).chain(open).collect();
    if found.refused.is_empty() {
        text += "as far as can be told here, it would be taken\n";
    }
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|err| Error::Failed(format!("can't write: {err}")))?;
    Ok(ExitCode::from(u8::from(!found.refused.is_empty())))
}

fn keys(flags: &KeysFlags) -> Result<ExitCode, Error> {
    let keys = gapura::keys::ensure(&flags.state, flags.door.as_deref(), &Clock::system())?;
    let text = if flags.ca {
        std::fs::read_to_string(&keys.root)
            .map_err(|err| Error::Failed(format!("can't read {}: {err}", keys.root.display())))?
    } else {
        let shown = [
            ("tls-cert", &keys.cert),
            ("tls-key", &keys.key),
            ("jwks", &keys.jwks),
            ("root, for clients", &keys.root),
        ];
        shown
            .iter()
            .map(|(what, path)| format!("{what:<18} {}\n", path.display()))
            .collect()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|err| Error::Failed(format!("can't write: {err}")))?;
    Ok(ExitCode::SUCCESS)
}

fn plugin_test(flags: &PluginTestFlags) -> Result<ExitCode, Error> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path);
        text.map_err(|err| Error::Refused(format!("can't read {}: {err}", path.display())))
    };
    let openapi = flags.openapi.as_ref().map(read).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|err| Error::Failed(format!("can't start: {err}")))?;
    let test = gapura::plugin_test::run(&flags.url, openapi.as_deref(), &flags.callers);
    let report = runtime.block_on(test)?;
    let lines = |what: &str, list: &[String]| -> String {
        list.iter().map(|line| format!("{what} {line}\n")).collect()
    };
    let mut text = lines("tried:    ", &report.tried);
    text += &lines("not tried:", &report.untried);
    text += &lines("LEAK:     ", &report.leaks);
    text += &match report.leaks.len() {
        0 => "no company met what is another's\n".to_owned(),
        count => format!("{count} places where a company met what is another's\n"),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|err| Error::Failed(format!("can't write: {err}")))?;
    Ok(ExitCode::from(u8::from(!report.leaks.is_empty())))
}

fn status(flags: StatusFlags) -> Result<ExitCode, Error> {
    let (mut worst, mut text) = (Health::default(), String::new());
    for address in flags.admin {
        let status = Status::ask(&AdminSide {
            address,
            token_file: flags.admin_token_file.clone(),
        });
        worst = worst.max(status.health());
        if flags.json {
            text += &format!("{}\n", status.to_json());
        } else {
            text += &format!("{}\n", status.lines().join("\n"));
        }
    }
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|err| Error::Failed(format!("can't write: {err}")))?;
    Ok(ExitCode::from(worst.exit_code()))
}

fn tap(flags: TapFlags) -> Result<ExitCode, Error> {
    let admin = AdminSide {
        address: flags.admin,
        token_file: flags.admin_token_file,
    };
    let wanted = Wanted {
        plugin: flags.plugin,
        company: flags.company,
        status: flags.status,
        slow: flags.slow,
    };
    gapura::tap::run(&admin, &wanted, flags.json, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn up(flags: UpFlags) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|err| Error::Failed(format!("can't start: {err}")))?;
    let code = runtime.block_on(run(flags));
    runtime.shutdown_timeout(Duration::from_millis(200)); // a task that does not end must not keep a person waiting
    code
}

async fn run(flags: UpFlags) -> Result<ExitCode, Error> {
    let mut signals =
        Signals::new().map_err(|err| Error::Failed(format!("can't wait for signals: {err}")))?;
    let logs = flags.logs;
    let options = Options {
        listen: flags.listen,
        admin: flags.admin,
        state: flags.state,
        plugins: flags.plugins,
        expose_dev_keys: flags.expose_dev_keys,
        logs,
    };
    let mut up = tokio::select! {
        up = Up::start(options, Clock::system()) => up?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "gapura".to_owned());
    if logs {
        print_note(&up.screen(&program, std::io::stderr().is_terminal()));
    } else {
        let mut out = std::io::stdout();
        let _ = out
            .write_all(up.screen(&program, out.is_terminal()).as_bytes())
            .and_then(|()| out.flush()); // nobody may be reading
    }
    tokio::select! {
        () = up.keep(|sentence| print_note(&format!("gapura: {sentence}"))) => {}
        () = signals.next() => {}
    }
    print_note("\ngapura: ending; what is in flight may finish, Ctrl-C again ends at once");
    tokio::select! {
        () = up.stop() => Ok(ExitCode::SUCCESS),
        () = signals.next() => Ok(ExitCode::from(130)),
    }
}

/// What ends the mesh: Ctrl-C, SIGTERM, or the terminal going away.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A line on standard error, whether anybody reads it or not.
fn print_note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
