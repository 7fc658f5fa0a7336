//! The skein command: a node, and what one does with it.
//!
//! Input: arguments, the environment, standard input. Output: a running node, records, tables or
//! JSON; an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration; `cluster status` has two more.
//! When whoever reads the output has gone (`skein consume … | head`), that is an end like any
//! other: 0.

use std::process::ExitCode;

use clap::Parser;

mod arguments;
mod bench;
mod cluster;
mod completions;
mod config;
mod consume;
mod failure;
mod group;
mod import;
mod log;
mod logs;
mod node;
mod output;
mod partition;
mod produce;
mod record;
mod reminder;
mod secret;
mod serve;
mod session;
mod stop;
mod template;
mod time;
mod topic;

use arguments::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Topic(topic) => topic::run(topic),
        Command::Produce(produce) => produce::run(produce),
        Command::Consume(consume) => consume::run(consume),
        Command::Cluster(cluster) => cluster::run(cluster),
        Command::Node(node) => node::run(node),
        Command::Partition(partition) => partition::run(partition),
        Command::Bench(bench) => bench::run(bench),
        Command::Completions(completions) => completions::run(&completions),
        Command::Config(config) => config::run(config),
        Command::Log(log) => log::run(log),
        Command::Record(record) => record::run(record),
        Command::Group(group) => group::run(group),
        Command::Import(import) => import::run(&import),
    }
}
