//! `wicketgate user`: the local user file.

use anyhow::ensure;

use super::output::table;
use super::program::{Program, UserFile};
use super::{Cli, Exit, Failure, Format, Terminal, UserCommand, read_config};

pub(super) fn user(
    cli: &Cli,
    command: &UserCommand,
    program: &dyn Program,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Failure> {
    let config = read_config(cli)?;
    let mut users = program.users(&config.users)?;
    match command {
        UserCommand::Add { name, groups } => {
            // Before the password is asked for: nobody likes to type one in vain.
            if users.contains(name)? {
                return Err(Failure::Other(anyhow::anyhow!("there is a user {name:?} already")));
            }
            let password = terminal.passwords.new_password(name)?;
            users.add(name, groups, &password)?;
            tell(cli, terminal, name, "added")?;
        }
        UserCommand::Passwd { name } => {
            known(users.as_ref(), name)?;
            let password = terminal.passwords.new_password(name)?;
            users.set_password(name, &password)?;
            tell(cli, terminal, name, "password set")?;
        }
        UserCommand::Disable { name } => {
            known(users.as_ref(), name)?;
            let word = if users.set_enabled(name, false)? { "disabled" } else { "disabled already" };
            tell(cli, terminal, name, word)?;
        }
        UserCommand::Enable { name } => {
            known(users.as_ref(), name)?;
            let word = if users.set_enabled(name, true)? { "enabled" } else { "enabled already" };
            tell(cli, terminal, name, word)?;
        }
        UserCommand::List => list(cli, users.as_ref(), terminal)?,
    }
    Ok(Exit::Done)
}

fn known(users: &dyn UserFile, name: &str) -> anyhow::Result<()> {
    ensure!(users.contains(name)?, "there is no user {name:?}");
    Ok(())
}

fn tell(cli: &Cli, terminal: &mut Terminal<'_>, name: &str, result: &str) -> std::io::Result<()> {
    match cli.format {
        Format::Text => writeln!(terminal.out, "{}: {result}", name.escape_debug()),
        Format::Json => writeln!(terminal.out, "{}", serde_json::json!({ "name": name, "result": result })),
    }
}

fn list(cli: &Cli, users: &dyn UserFile, terminal: &mut Terminal<'_>) -> anyhow::Result<()> {
    let users = users.list()?;
    match cli.format {
        Format::Text => {
            let rows = users.into_iter().map(|user| {
                let state = if user.enabled { "enabled" } else { "disabled" };
                [user.name, state.to_owned(), user.groups.join(",")]
            });
            write!(terminal.out, "{}", table(["NAME", "STATE", "GROUPS"], rows))?;
        }
        Format::Json => writeln!(terminal.out, "{}", serde_json::to_string(&users)?)?,
    }
    Ok(())
}
