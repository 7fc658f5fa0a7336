package harness

import (
	"bufio"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// Process is this program once more, as a process of its own that a scenario can stop and kill.
type Process struct {
	command *exec.Cmd
	lock    sync.Mutex
	said    string
}

var processes struct {
	sync.Mutex
	started []*Process
}

// StartProcess runs it with these arguments behind the address.
func StartProcess(arguments ...string) *Process {
	p := &Process{command: exec.Command(os.Args[0], append([]string{Bootstrap()}, arguments...)...)}
	p.command.Stderr = os.Stderr
	output := Must(p.command.StdoutPipe())
	Must(0, p.command.Start())
	processes.Lock()
	processes.started = append(processes.started, p)
	processes.Unlock()
	go func() {
		for lines := bufio.NewScanner(output); lines.Scan(); {
			p.lock.Lock()
			p.said = lines.Text()
			p.lock.Unlock()
		}
	}()
	return p
}

// Signal stops it, lets it go on, or kills it.
func (p *Process) Signal(signal syscall.Signal) { Must(0, p.command.Process.Signal(signal)) }

// Last is the last line that it said.
func (p *Process) Last() string {
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.said
}

// killProcesses leaves none behind, however the scenario ended.
func killProcesses() {
	processes.Lock()
	defer processes.Unlock()
	for _, p := range processes.started {
		p.command.Process.Kill()
	}
}
