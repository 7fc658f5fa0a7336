//! The command line of `skein-sim`.
//!
//! Input: arguments. Output: what they ask for, or what is wrong with them.
//!
//! Invariant: none.
//!
//! Source: none.

use std::collections::BTreeSet;
use std::time::Duration;

use skein_sim::{Cuts, MUTATIONS, Mutation};

/// How to use the command.
pub(crate) const USAGE: &str = "\
usage: skein-sim [--nodes N] [--seeds N] [--first-seed N] [--keep-going] [--coverage]
       skein-sim [--nodes N] --seed N [--trace] [--world-log]
       skein-sim --seed N [--only PARTS] [--safety-us N]
       skein-sim --seed N --shrink
       skein-sim [--nodes N] --mutations

  --nodes N         simulate a cluster of 3 or 5 nodes (default 1: one node); leaving parts out,
                    and what the node did under which fault, is for one node only
  --seeds N         how many runs (default 20)
  --first-seed N    the seed of the first (default 1)
  --keep-going      go on after a failure
  --coverage        tell which transitions of its state machines the node made under which faults
                    (needs the feature `mutations`)
  --seed N          one run
  --trace           print every event, and the node's log, as they happen
  --world-log       print every disk call, network segment and poll at the end
  --shrink          if the run fails: leave out what its failure does not need
  --only PARTS      leave out the parts of the run that are not named, as --shrink names them
  --safety-us N     let faults strike for so many simulated microseconds at most
  --mutation NAME   break the node on purpose (needs the feature `mutations`)
  --mutations       break it in every way, one after the other; each must be found. One node and
                    a cluster have ways of their own";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Args {
    /// How many nodes there are.
    pub(crate) nodes: usize,
    pub(crate) seeds: u64,
    pub(crate) first_seed: u64,
    pub(crate) keep_going: bool,
    pub(crate) coverage: bool,
    pub(crate) trace: bool,
    pub(crate) world_log: bool,
    pub(crate) shrink: bool,
    pub(crate) cuts: Cuts,
    pub(crate) mutation: Option<Mutation>,
    /// Every mutation is to be found.
    pub(crate) mutations: bool,
}

impl Args {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            nodes: 1,
            seeds: 20,
            first_seed: 1,
            keep_going: false,
            coverage: false,
            trace: false,
            world_log: false,
            shrink: false,
            cuts: Cuts::default(),
            mutation: None,
            mutations: false,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--nodes" => parsed.nodes = nodes(args.next())?,
                "--seeds" => parsed.seeds = number(&arg, args.next())?,
                "--first-seed" => parsed.first_seed = number(&arg, args.next())?,
                "--seed" => {
                    parsed.first_seed = number(&arg, args.next())?;
                    parsed.seeds = 1;
                }
                "--keep-going" => parsed.keep_going = true,
                "--coverage" => parsed.coverage = true,
                "--trace" => parsed.trace = true,
                "--world-log" => parsed.world_log = true,
                "--shrink" => parsed.shrink = true,
                "--only" => parsed.cuts.only = Some(parts(args.next())?),
                "--safety-us" => {
                    let longest = Duration::from_micros(number(&arg, args.next())?);
                    parsed.cuts.safety = Some(longest);
                }
                "--mutation" => parsed.mutation = Some(mutation(args.next())?),
                "--mutations" => parsed.mutations = true,
                _ => return Err(format!("unknown argument {arg:?}")),
            }
        }
        if (parsed.mutations || parsed.coverage) && MUTATIONS.is_empty() {
            return Err(NO_MUTATIONS.to_owned());
        }
        let is_of_one = parsed.shrink || parsed.coverage || parsed.cuts.only.is_some();
        if parsed.nodes > 1 && (is_of_one || parsed.cuts.safety.is_some()) {
            let what = "--shrink, --coverage, --only and --safety-us are for one node";
            return Err(what.to_owned());
        }
        Ok(parsed)
    }
}

/// What a build without the feature says.
const NO_MUTATIONS: &str = "this build has nothing of that; add --features mutations";

fn number(name: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{name} needs a number"))?;
    value
        .parse()
        .map_err(|_| format!("{name} needs a number, not {value:?}"))
}

/// How many nodes: an odd number that a quorum may have.
fn nodes(value: Option<String>) -> Result<usize, String> {
    match value.as_deref() {
        Some("1") => Ok(1),
        Some("3") => Ok(3),
        Some("5") => Ok(5),
        other => Err(format!("--nodes takes 1, 3 or 5, not {other:?}")),
    }
}

/// Names, separated by commas.
fn parts(value: Option<String>) -> Result<BTreeSet<String>, String> {
    let value = value.ok_or("--only needs names of parts")?;
    Ok(value.split(',').map(str::to_owned).collect())
}

fn mutation(name: Option<String>) -> Result<Mutation, String> {
    let known: Vec<_> = MUTATIONS.iter().map(|(known, _)| *known).collect();
    let found = MUTATIONS
        .iter()
        .find(|(known, _)| Some(*known) == name.as_deref());
    found
        .map(|(_, mutation)| *mutation)
        .ok_or_else(|| match known.is_empty() {
            true => NO_MUTATIONS.to_owned(),
            false => format!("--mutation takes one of: {}", known.join(", ")),
        })
}
