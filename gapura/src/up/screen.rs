//! What `gapura up` prints: what runs where, when each certificate ends, tokens, and lines to
//! paste.
//!
//! In: the facts. Out: a text. On a terminal with headings that stand out, piped or with `NO_COLOR`
//! plain. Every printed command works as it stands in a shell in the folder the program was started
//! in, and names the root to trust: never `-k`.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gapura_protocol::clock::{Rfc3339, unix};

/// Everything the screen tells.
pub(crate) struct Facts {
    pub(crate) now: SystemTime,
    pub(crate) door: SocketAddr,
    pub(crate) door_ends: SystemTime,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) gateway: Peer,
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) root: PathBuf,
    pub(crate) tokens: Vec<Token>,
    pub(crate) logs: Option<PathBuf>,
    /// How this program was called, and how its state folder is named to it.
    pub(crate) program: String,
    pub(crate) state: PathBuf,
    pub(crate) exposed: bool,
}

/// A program's identity, and when its certificate ends.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) id: String,
    pub(crate) ends: SystemTime,
}

/// One plugin behind the mesh.
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) mount: String,
    pub(crate) sidecar: SocketAddr,
    pub(crate) peer: Peer,
    pub(crate) at: String,
    /// The file of the sample's reports; none for a plugin of one's own.
    pub(crate) sample: Option<PathBuf>,
    pub(crate) answers: bool,
}

/// A token that was made for trying things.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) company: &'static str,
    pub(crate) user: &'static str,
    pub(crate) role: &'static str,
    pub(crate) file: PathBuf,
    pub(crate) token: String,
}

/// The looks.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    bold: &'static str,
    dim: &'static str,
    plain: &'static str,
}

impl Style {
    /// Stands out on a terminal, unless `NO_COLOR` (no-color.org) or a dumb terminal says
    /// otherwise.
    pub(crate) fn of(terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if terminal && !set("NO_COLOR") && !dumb {
            Self {
                bold: "\x1b[1m",
                dim: "\x1b[2m",
                plain: "\x1b[0m",
            }
        } else {
            Self::NONE
        }
    }

    const NONE: Self = Self {
        bold: "",
        dim: "",
        plain: "",
    };
}

/// The text of the screen.
pub(crate) fn screen(facts: &Facts, style: Style) -> String {
    let mut text = String::new();
    // Writing into a String can't fail.
    let _ = runs(&mut text, facts, style);
    let _ = tokens(&mut text, facts, style);
    let _ = lines_to_try(&mut text, facts, style);
    text
}

fn runs(out: &mut String, facts: &Facts, style: Style) -> std::fmt::Result {
    let Style { bold, dim, plain } = style;
    let ends = |ends: SystemTime| format!("until {}", date_and_days(ends, facts.now));
    writeln!(out, "{bold}Gapura is up.{plain} Ctrl-C ends everything.\n")?;
    writeln!(
        out,
        "  client {dim}── https ──▶{plain} gateway {dim}── mTLS 1.3 ──▶{plain} sidecar {dim}── http ──▶{plain} plugin\n"
    )?;
    writeln!(
        out,
        "  {bold}gateway{plain}   https://{}   {dim}certificate {}{plain}",
        reachable(facts.door),
        ends(facts.door_ends)
    )?;
    writeln!(
        out,
        "            {}   {dim}certificate {}{plain}",
        facts.gateway.id,
        ends(facts.gateway.ends)
    )?;
    if let Some(admin) = facts.admin {
        writeln!(
            out,
            "            admin side http://{admin}   {dim}/plugins /certificates /metrics{plain}"
        )?;
    }
    for plugin in &facts.plugins {
        let at = &plugin.at;
        writeln!(
            out,
            "\n  {bold}plugin{plain}    {} at {}",
            plugin.name, plugin.mount
        )?;
        writeln!(out, "            sidecar {}", plugin.sidecar)?;
        writeln!(
            out,
            "            {}   {dim}certificate {}{plain}",
            plugin.peer.id,
            ends(plugin.peer.ends)
        )?;
        match &plugin.sample {
            Some(database) => writeln!(
                out,
                "            the sample plugin at {at}, its reports in {}",
                database.display()
            )?,
            None if plugin.answers => writeln!(out, "            your plugin at {at}")?,
            None => writeln!(
                out,
                "            your plugin at {at}: {bold}nothing answers there yet{plain}; start it when you like"
            )?,
        }
    }
    if let Some(logs) = &facts.logs {
        writeln!(out, "\n  {bold}logs{plain}      {}", logs.display())?;
    }
    if facts.exposed {
        writeln!(
            out,
            "\n  {bold}Other machines can reach this door.{plain} Its keys are for development: whoever reads {} is any user.",
            facts.state.display()
        )?;
    }
    Ok(())
}

fn tokens(out: &mut String, facts: &Facts, style: Style) -> std::fmt::Result {
    let Style { bold, dim, plain } = style;
    writeln!(
        out,
        "\n{bold}Tokens{plain} last for an hour; their files are kept fresh while this runs.\n"
    )?;
    for token in &facts.tokens {
        writeln!(
            out,
            "  company {}, user {}, role {}: {}",
            token.company,
            token.user,
            token.role,
            token.file.display()
        )?;
        writeln!(out, "  {dim}{}{plain}\n", token.token)?;
    }
    writeln!(out, "  {dim}# for anybody else{plain}")?;
    let state = if facts.state == Path::new(".gapura") {
        String::new()
    } else {
        format!(" --state {}", quoted(&facts.state.display().to_string()))
    };
    writeln!(
        out,
        "  {} token --company 99 --user 1 --role admin{state}\n",
        quoted(&facts.program)
    )
}

fn lines_to_try(out: &mut String, facts: &Facts, style: Style) -> std::fmt::Result {
    let Style { bold, dim, plain } = style;
    let (Some(plugin), [ours, theirs, ..]) = (facts.plugins.first(), facts.tokens.as_slice())
    else {
        return Ok(());
    };
    // Quoted, since some shells take the brackets of [::1] for a pattern.
    let to = |plugin: &Plugin, path: &str| {
        quoted(&format!(
            "https://{}{}{path}",
            reachable(facts.door),
            plugin.mount
        ))
    };
    let url = to(
        plugin,
        if plugin.sample.is_some() {
            "/reports"
        } else {
            "/"
        },
    );
    let curl = format!(
        "curl --cacert {}",
        quoted(&facts.root.display().to_string())
    );
    let bearer = |token: &Token| {
        format!(
            "-H \"Authorization: Bearer $(cat {})\"",
            quoted(&token.file.display().to_string())
        )
    };
    let (us, them) = (bearer(ours), bearer(theirs));
    let spoof = format!("-H 'X-Company-Id: {}'", theirs.company);
    let what = if plugin.sample.is_some() {
        "reports"
    } else {
        "view of your plugin"
    };
    writeln!(
        out,
        "{bold}Try it{plain} in another terminal, in this folder.\n"
    )?;
    let mut line =
        |comment: &str, command: &str| writeln!(out, "  {dim}# {comment}{plain}\n  {command}\n");
    line(
        &format!("company {}'s {what}", ours.company),
        &format!("{curl} {us} {url}"),
    )?;
    line(
        &format!("company {}'s {what}", theirs.company),
        &format!("{curl} {them} {url}"),
    )?;
    let spoofed = format!(
        "company {} says it is company {}: the header is dropped, the token decides",
        ours.company, theirs.company
    );
    line(&spoofed, &format!("{curl} {us} {spoof} {url}"))?;
    if plugin.sample.is_some() {
        let others = format!(
            "company {} asks for a report of company {}: 404, as if it were not there",
            ours.company, theirs.company
        );
        line(
            &others,
            &format!("{curl} {us} {}", to(plugin, "/reports/4")),
        )?;
    }
    for own in facts.plugins.iter().skip(1) {
        line(
            &format!("your plugin {}, for company {}", own.name, ours.company),
            &format!("{curl} {us} {}", to(own, "/")),
        )?;
    }
    line("no token: 401", &format!("{curl} {url}"))
}

/// The address a client on this machine types.
fn reachable(door: SocketAddr) -> SocketAddr {
    let ip = match door.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, door.port())
}

fn date_and_days(ends: SystemTime, now: SystemTime) -> String {
    let date: String = Rfc3339(ends).to_string().chars().take(10).collect();
    // To the nearest day: thirty days less a moment are thirty days.
    match (unix(ends).saturating_sub(unix(now)) + 43_200) / 86_400 {
        0 => format!("{date} (today)"),
        1 => format!("{date} (1 day)"),
        days => format!("{date} ({days} days)"),
    }
}

/// A word as a POSIX shell takes it, also inside `$(…)`.
fn quoted(word: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/+:@%,".contains(&byte);
    if !word.is_empty() && word.bytes().all(safe) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn facts(sample: bool) -> Facts {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let ends = now + Duration::from_secs(30 * 86_400);
        let token = |company, user, role| Token {
            company,
            user,
            role,
            file: format!("my state/tokens/company-{company}").into(),
            token: format!("eyJ.{company}.sig"),
        };
        let plugin = Plugin {
            name: "lab-reporting".to_owned(),
            mount: "/v1/plugins/lab-reporting".to_owned(),
            sidecar: "127.0.0.1:19443".parse().unwrap(),
            peer: Peer {
                id: "spiffe://dev.gapura.internal/plugin/lab-reporting".to_owned(),
                ends,
            },
            at: "http://127.0.0.1:5000".to_owned(),
            sample: sample.then(|| "my state/lab-reporting.db".into()),
            answers: false,
        };
        Facts {
            now,
            door: "0.0.0.0:8443".parse().unwrap(),
            door_ends: ends,
            admin: Some("127.0.0.1:9901".parse().unwrap()),
            gateway: Peer {
                id: "spiffe://dev.gapura.internal/gateway/dev".to_owned(),
                ends,
            },
            plugins: vec![plugin],
            root: "my state/ca.pem".into(),
            tokens: vec![token("42", "7", "admin"), token("7", "9", "reader")],
            logs: Some("my state/log".into()),
            program: "target/release/gapura".to_owned(),
            state: "my state".into(),
            exposed: true,
        }
    }

    #[test]
    fn tells_what_runs_and_until_when() {
        let text = screen(&facts(true), Style::NONE);
        for part in [
            "https://127.0.0.1:8443",
            "http://127.0.0.1:9901",
            "spiffe://dev.gapura.internal/gateway/dev",
            "spiffe://dev.gapura.internal/plugin/lab-reporting",
            "(30 days)",
            "eyJ.42.sig",
            "eyJ.7.sig",
            "Other machines can reach this door",
            "target/release/gapura token --company 99 --user 1 --role admin --state 'my state'",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
        let own = screen(&facts(false), Style::NONE);
        assert!(
            own.contains("nothing answers there yet")
                && own.contains("/v1/plugins/lab-reporting/\n"),
            "{own}"
        );
    }

    #[test]
    fn every_curl_names_the_root_and_parses_in_a_shell() {
        for text in [
            screen(&facts(true), Style::NONE),
            screen(&facts(false), Style::NONE),
        ] {
            let lines: Vec<&str> = text
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("curl "))
                .collect();
            assert!(lines.len() >= 4);
            for line in lines {
                assert!(
                    line.starts_with("curl --cacert 'my state/ca.pem' ") && !line.contains(" -k"),
                    "{line}"
                );
                let ran = std::process::Command::new("sh")
                    .args(["-nc", line])
                    .status()
                    .unwrap();
                assert!(ran.success(), "{line}");
            }
        }
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_cut_it() {
        assert_eq!(quoted(".gapura/ca.pem"), ".gapura/ca.pem");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
