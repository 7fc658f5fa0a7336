//! `skein completions`: what a shell needs to complete the command line.
//!
//! Input: the shell. Output: a script for it on standard output.
//!
//! Invariant: the script comes from the same definition that parses the command line.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  skein completions bash > ~/.local/share/bash-completion/completions/skein
  skein completions zsh > \"${fpath[1]}/_skein\"
  skein completions fish > ~/.config/fish/completions/skein.fish
  source <(skein completions bash)                   for this shell only";

/// Arguments of `skein completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `skein completions`.
pub(crate) fn run(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    // Into memory, because it takes a failing output for a bug.
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "skein",
        &mut script,
    );
    let mut out = output::stdout();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
