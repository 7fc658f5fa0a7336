// Package harness is what the programs of all Go clients need: how scenarios are named and run, and how they wait and compare.
package harness

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// patience ends every wait in a scenario.
const patience = 120 * time.Second

// Replication is how many replicas the topics of a scenario have.
func Replication() int16 {
	count, err := strconv.ParseInt(os.Getenv("REPLICATION"), 10, 16)
	if err != nil {
		return 1
	}
	return int16(count)
}

// Bootstrap is the address of the broker.
func Bootstrap() string { return os.Args[1] }

// Program is what a client can do.
type Program struct {
	Scenarios map[string]func()
	// Write writes for other clients to a topic, Read prints what it reads of one.
	Write, Read func(topic string)
	// BeAMember is a process of its own, to be stopped and killed.
	BeAMember func(topic, group string)
}

// Main is `PROGRAM BOOTSTRAP SCENARIO...`: all scenarios at once; or `--list`, `write TOPIC`, `read TOPIC...`, `member TOPIC GROUP`.
func Main(program Program) {
	switch arguments := os.Args[3:]; os.Args[2] {
	case "--list":
		for name := range program.Scenarios {
			fmt.Println(name)
		}
	case "write":
		program.Write(arguments[0])
	case "read":
		for _, topic := range arguments {
			program.Read(topic)
		}
	case "member":
		program.BeAMember(arguments[0], arguments[1])
	default:
		runAll(program.Scenarios, os.Args[2:])
	}
}

func runAll(scenarios map[string]func(), names []string) {
	defer killProcesses()
	var running sync.WaitGroup
	for _, name := range names {
		run, found := scenarios[name]
		Check(found, "no scenario %s", name)
		running.Go(func() {
			defer told(name)
			run()
		})
	}
	running.Wait()
}

// told ends the program when the scenario has failed, and says how.
func told(name string) {
	if failure := recover(); failure != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s", name, failure, debug.Stack())
		killProcesses()
		os.Exit(1)
	}
}

// Background ends after patience, and releases its timer by itself.
func Background() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// Check fails the scenario unless ok.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

// Must fails the scenario on an error.
func Must[T any](value T, err error) T {
	Check(err == nil, "%v", err)
	return value
}

// Equal fails the scenario unless what was found is what was expected.
func Equal[T comparable](found, expected T, what string) {
	Check(found == expected, "%s: %v instead of %v", what, found, expected)
}

// Eventually waits until the condition holds.
func Eventually(condition func() bool, otherwise string) {
	for ctx := Background(); !condition(); time.Sleep(20 * time.Millisecond) {
		Check(ctx.Err() == nil, "%s", otherwise)
	}
}
