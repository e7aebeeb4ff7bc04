package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// process is one running redis-server.
type process struct {
	os   *os.Process
	done chan struct{} // closed once the process has ended and was reaped
}

// startProcess runs the program with its output appended to logFile.
func startProcess(path string, args []string, dir, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)

	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// What the kernel takes for the parent, when it decides whether a
		// child has lost it, is the thread that started it: keep the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := errors.Join(cmd.Start(), log.Close())
		p.os = cmd.Process
		started <- err
		if p.os == nil {
			return
		}
		// How it ended is of no interest: tests kill servers all the time,
		// and the log tells of a server that did not come up.
		_ = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return p, nil
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process at once and waits for it.
func (p *process) kill() error {
	if err := p.os.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill redis-server: %w", err)
	}
	<-p.done
	return nil
}
