//! Asks before anything is deleted.

use crate::exit::Failed;
use std::io::{BufRead, IsTerminal, Write};

/// On a terminal asks for `y`; elsewhere refuses, because nobody could answer. `yes` says it beforehand.
pub fn confirm(what: &str, yes: bool) -> Result<(), Failed> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failed::Usage(format!("this would {what}; say --yes, since nobody can be asked here")));
    }
    eprint!("This will {what}. Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failed::Other("nothing was done".to_owned())),
    }
}
