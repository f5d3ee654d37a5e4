//! The command line, made from the table of settings.

use std::collections::BTreeMap;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Kind, Setting};

/// A command that takes every setting of the table, before or after a subcommand.
#[must_use]
pub fn command(
    name: &'static str,
    version: &'static str,
    about: &'static str,
    example: &'static str,
    settings: &[Setting],
) -> Command {
    let args = settings.iter().map(|setting| {
        let also = setting
            .also_env
            .map(|variable| format!(", {variable}"))
            .unwrap_or_default();
        let help = StyledStr::from(format!(
            "{} [env: {}{also}]",
            setting.help,
            setting.variable()
        ));
        let arg = Arg::new(setting.name)
            .long(setting.name)
            .help(help)
            .global(true);
        match setting.kind {
            Kind::One(value) => arg.value_name(value).action(ArgAction::Set),
            Kind::Many(value) => arg.value_name(value).action(ArgAction::Append),
            Kind::Switch => arg.action(ArgAction::SetTrue),
        }
    });
    Command::new(name)
        .version(version)
        .about(about)
        .after_help(example)
        .args(args)
}

/// What was given on the command line, by setting. `matches` are those of the subcommand where one
/// was given.
#[must_use]
pub fn given(matches: &ArgMatches, settings: &[Setting]) -> BTreeMap<&'static str, Vec<String>> {
    let values = |setting: &Setting| match setting.kind {
        Kind::Switch => matches
            .get_flag(setting.name)
            .then(|| vec!["true".to_owned()]),
        Kind::One(_) | Kind::Many(_) => matches
            .get_many::<String>(setting.name)
            .map(|values| values.cloned().collect()),
    };
    settings
        .iter()
        .filter_map(|setting| values(setting).map(|values| (setting.name, values)))
        .collect()
}
