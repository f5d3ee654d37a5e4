//! The order of it all: who is there, leave, what a good request looks like, every attack, and once
//! more a good request.
//!
//! In: flags. Out: a report on standard output, and the exit code. Everything before it goes to
//! standard error, so that `--json` stays JSON. Shots go one after another, [`LONGEST`] altogether;
//! what reached the plugin is fetched through the door at the end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gapura_protocol::clock::Clock;

use super::asked::{Asked, read};
use super::attack::{Attack, By};
use super::catalogue;
use super::exchange::{self, Outcome};
use super::fill::{Filling, Shot, shots};
use super::flags::ProveFlags;
use super::floods;
use super::good::{Witness, baseline, complete, seen_behind, still_there, witness};
use super::judge::{Baseline, Finding, cannot_tell, held, judge, not_held};
use super::leave;
use super::mark::Run;
use super::plugin::Plugin;
use super::report::{Report, Row, Tried};
use super::seen::Seen;
use super::sidecar;
use super::slow::Slow;
use super::target::Target;
use super::wire::Protocol;
use crate::error::Error;

/// All shots together; what is not fired by then can't be told.
const LONGEST: Duration = Duration::from_secs(300);

/// A shot with what came of it, and its attack's place.
struct Fired {
    shot: Shot,
    outcome: Outcome,
}

/// Runs the command.
///
/// # Errors
/// A sentence for wrong flags, for a door that may not be tested, and for one that lets no good
/// request in.
pub fn prove(flags: ProveFlags) -> Result<ExitCode, Error> {
    if flags.plugin {
        return serve(flags.listen);
    }
    let given = read(&flags)?;
    let run = Run::new().map_err(Error::Failed)?;
    let filling = Filling {
        target: &given.target,
        run: &run,
        good: &given.good,
        other: given.other.as_deref(),
        key: given.key.as_ref(),
        now: Clock::system().unix(),
    };
    let witness = witness(&filling);
    let leave = leave::for_door(
        &given.target.host,
        given.target.address.ip(),
        &flags.i_may_test,
        witness.is_some(),
    )?;
    announce(&flags, &given, leave.as_str(), witness.is_some(), &filling);
    let report = attack(&flags, &given, &filling, witness)?;
    let text = if flags.json {
        format!("{:#}\n", report.json())
    } else {
        report.table()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|err| Error::Failed(format!("can't write: {err}")))?;
    let [_, not_held, _] = report.counts();
    Ok(ExitCode::from(u8::from(not_held > 0)))
}

fn serve(listen: SocketAddr) -> Result<ExitCode, Error> {
    let plugin = Plugin::bind(listen).map_err(|err| {
        Error::Refused(format!(
            "can't listen on {listen}: {err}; choose another address with --listen"
        ))
    })?;
    let address = plugin.address();
    print(&format!(
        "the plugin of gapura prove listens on http://{address}; mount it behind the door, then run: gapura prove URL"
    ));
    if !address.ip().is_loopback() {
        print(
            "anybody who reaches this address can speak to the plugin without the door; row T7 will say so",
        );
    }
    plugin.serve()
}

fn announce(flags: &ProveFlags, given: &Asked, leave: &str, plugin: bool, filling: &Filling<'_>) {
    let mut number = 0;
    let count: usize = catalogue::all()
        .map(|attack| shots(attack, filling, &mut number).len())
        .sum();
    let floods = if flags.floods {
        format!(
            "floods of {} frames at most on six further connections, {} s each",
            floods::FRAMES,
            floods::PATIENCE.as_secs()
        )
    } else {
        "no floods (--floods adds them)".to_owned()
    };
    let sidecar = given.sidecar.map_or_else(String::new, |at| {
        format!(" and seven to the sidecar at {at},")
    });
    let witness = if plugin {
        "its plugin answers behind it"
    } else {
        "no plugin of ours answers behind it, so less can be told"
    };
    print(&format!(
        "gapura prove sends up to {} requests, one connection each, to {} at {},{sidecar} within {} s; {floods}\n  {leave}; {witness}; Ctrl-C ends it",
        count + 12,
        given.target.url,
        given.target.address,
        LONGEST.as_secs(),
    ));
}

fn attack(
    flags: &ProveFlags,
    given: &Asked,
    filling: &Filling<'_>,
    witness: Option<Witness>,
) -> Result<Report, Error> {
    let until = Instant::now() + LONGEST;
    let mut number = 0;
    let mut base = baseline(filling, witness.is_some())?;
    let slow = Slow::open(&given.target);
    let fired: Vec<(&Attack, Vec<Fired>, Option<Finding>)> = catalogue::all()
        .map(|attack| {
            let shots = shots(attack, filling, &mut number);
            let fired = shots
                .into_iter()
                .map(|shot| fire(&given.target, shot, until))
                .collect();
            (
                attack,
                fired,
                unshot(attack, flags, given, filling, witness.as_ref()),
            )
        })
        .collect();
    let late = slow.wait();
    still_there(filling)?;
    let seen = if witness.is_some() {
        seen_behind(filling)?
    } else {
        Vec::new()
    };
    complete(&mut base, &seen, filling);
    let rows = fired.into_iter().map(|(attack, fired, other)| {
        let other = if matches!(attack.by, By::Slow) {
            Some(late.clone())
        } else {
            other
        };
        row(attack, fired, other, &seen, &base)
    });
    Ok(Report {
        door: given.target.url.clone(),
        plugin: base.plugin,
        rows: rows.collect(),
    })
}

fn fire(target: &Target, shot: Shot, until: Instant) -> Fired {
    let outcome = if shot.lacks.is_some() {
        Outcome::default()
    } else if Instant::now() > until {
        Outcome {
            failed: Some("the time was over".to_owned()),
            ..Outcome::default()
        }
    } else {
        exchange::fire(target, &shot)
    };
    Fired { shot, outcome }
}

/// The attacks that are no shots.
fn unshot(
    attack: &Attack,
    flags: &ProveFlags,
    given: &Asked,
    filling: &Filling<'_>,
    witness: Option<&Witness>,
) -> Option<Finding> {
    match attack.by {
        By::Shots(_) | By::Tokens(_) | By::Slow => None,
        By::Nothing(why) => Some(cannot_tell(why)),
        By::Flood(_) if !flags.floods => Some(cannot_tell("takes --floods")),
        By::Flood(flood) => {
            let good = filling.good(Protocol::Http1, "/flood", &filling.good.whole, "flood");
            let fields = [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", given.target.authority.as_str()),
                (":path", &format!("{}/flood", given.target.mount)),
                ("authorization", &format!("Bearer {}", given.good.whole)),
            ];
            let fields =
                fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            Some(floods::fire(flood, &given.target, &good, &fields))
        }
        By::Sidecar(knock) => Some(match given.sidecar {
            Some(at) => sidecar::knock(knock, at),
            None => cannot_tell("takes --sidecar"),
        }),
        By::Plugin => Some(match witness {
            Some(witness) if witness.loopback => {
                held(format!("the plugin listens on {}", witness.listens))
            }
            Some(witness) => not_held(format!("the plugin listens on {}", witness.listens)),
            None => cannot_tell("takes the plugin"),
        }),
    }
}

fn row(
    attack: &Attack,
    fired: Vec<Fired>,
    other: Option<Finding>,
    seen: &[Seen],
    base: &Baseline,
) -> Row {
    let mut tried: Vec<Tried> = fired
        .iter()
        .map(|fired| Tried {
            what: fired.shot.what,
            over: fired.shot.over.0.as_str(),
            finding: judge(attack.expect, &fired.shot, &fired.outcome, seen, base),
        })
        .collect();
    tried.extend(other.map(|finding| Tried {
        what: "",
        over: "",
        finding,
    }));
    Row {
        id: attack.id,
        tries: attack.tries,
        tried,
    }
}

/// A line for people, beside the report.
fn print(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
