// How scenarios are named and run, and how they wait and compare.
"use strict";

const { spawn } = require("node:child_process");
const { createInterface } = require("node:readline");

// Every wait in a scenario ends within this.
const PATIENCE_MS = 120_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits until the condition, which may be asynchronous, holds.
async function eventually(condition, otherwise) {
  const started = Date.now();
  while (!(await condition())) {
    if (Date.now() - started > PATIENCE_MS) throw new Error(otherwise);
    await sleep(20);
  }
}

// Tells the test that a point is reached; the answer's isHere says whether the test has answered.
function say(line) {
  const answer = { isHere: false };
  console.log(line);
  createInterface({ input: process.stdin }).once("line", () => (answer.isHere = true));
  return answer;
}

const processes = [];

// This program once more, as a process of its own that a scenario can stop and kill; `last` is the last line that it said.
class OtherProcess {
  last = "";

  constructor(...args) {
    const command = [process.argv[1], process.argv[2], ...args];
    this.process = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: this.process.stdout }).on("line", (line) => (this.last = line));
    processes.push(this.process);
  }

  signal(name) {
    this.process.kill(name);
  }
}

// Ends the program, and leaves no process behind.
function end(status) {
  for (const other of processes) other.kill("SIGKILL");
  process.exit(status);
}

function fail(what, error) {
  console.error(`${what} failed:`, error);
  end(1);
}

// `scenarios.js BOOTSTRAP SCENARIO...`, all at once, or `--list`, `write TOPIC`, `read TOPIC...`, `member TOPIC GROUP`.
async function main(scenarios, { write, read, beAMember }) {
  const [name, ...rest] = process.argv.slice(3);
  process.on("unhandledRejection", (error) => fail("something", error));
  if (name === "--list") {
    console.log(Object.keys(scenarios).join("\n"));
  } else if (name === "write") {
    await write(rest[0]);
  } else if (name === "read") {
    for (const lines of await Promise.all(rest.map(read))) console.log(lines.join("\n"));
  } else if (name === "member") {
    await beAMember(...rest);
  } else {
    const run = (one) => scenarios[one]().catch((error) => fail(one, error));
    await Promise.all([name, ...rest].map(run));
    end(0);
  }
}

module.exports = { PATIENCE_MS, OtherProcess, eventually, fail, main, say, sleep };
