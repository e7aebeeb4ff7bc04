package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// describeMachine says on what, and how long, was measured.
func describeMachine(b *bed, o options) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, %d cores, %s/%s; %s; redis-server %s on the same machine. ",
		cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), b.redis.version)
	fmt.Fprintf(&s, "%d rounds of %v for each way.", o.rounds, o.window)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		if fields := strings.Fields(string(load)); len(fields) > 1 {
			fmt.Fprintf(&s, " Load average at the end, with these benchmarks themselves: %s.", fields[1])
		}
	}
	return s.String()
}

// cpuModel is the name that the system gives the processor, where it tells.
func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "unknown processor"
}
