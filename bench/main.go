// Command bench measures what a check of this SDK costs on top of the floor:
// reading the same keys with nothing around it.
//
//	export GOWORK=off      # it is a module of its own
//	go run . -o ../docs    # all of it, a few minutes, into ../docs
//	go run . -short        # a few seconds: does it work?
//	go run . -run metered  # only what is so named
//
// It starts a redis-server of its own, which has to be on PATH, and a fake
// Stigg API from which the SDK itself fills that Redis. The SDK and its floor
// are measured in turn in many short rounds, and the figure that counts is the
// ratio of the two in the same round: whatever else the machine is doing hits
// both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"syscall"
	"time"
)

func main() {
	// Every way to be ended from outside must end the redis-server too; with
	// SIGPIPE that is the reader of a pipe that has seen enough.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	o, err := parseOptions(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2) // the flag package has said why
	}
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options say what is measured, for how long, and where the results go.
type options struct {
	out      string // the folder of benchmarks.md and its charts; empty: print only
	sizes    []int  // entitlements per customer
	inFlight []int  // goroutines that read at the same time
	rounds   int
	window   time.Duration // of one way in one round
	counted  int           // reads that allocations are counted over
	only     *regexp.Regexp
	profile  string // file for a CPU profile
}

func parseOptions(args []string, usage io.Writer) (options, error) {
	o := options{sizes: []int{10, 50, 200}, inFlight: []int{1, 64}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.out, "o", "", "write the results into benchmarks.md in this `folder`, with charts beside it")
	flags.IntVar(&o.rounds, "rounds", 31, "how often everything is measured")
	flags.DurationVar(&o.window, "window", 50*time.Millisecond, "how long one way of reading is measured in one round")
	only := flags.String("run", "", "measure only the groups whose name matches this `expression`")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile, labelled with way, size and in flight, to this `file`")
	short := flags.Bool("short", false, "measure hardly anything: tells that it works, not how fast")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.counted = 500
	if *short {
		o.sizes, o.rounds, o.window, o.counted = []int{10}, 3, 20*time.Millisecond, 100
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		_, _ = fmt.Fprintln(usage, err)
		return o, err
	}
	if o.rounds < 1 || o.window <= 0 || flags.NArg() > 0 {
		err = errors.New("-rounds and -window must be positive, and there are no arguments but flags")
		_, _ = fmt.Fprintln(usage, err)
	}
	return o, err
}

// run measures everything and puts the results where they belong.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	if o.profile != "" {
		file, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return errors.Join(err, file.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			if closeErr := file.Close(); closeErr != nil {
				fmt.Fprintln(os.Stderr, "bench:", closeErr)
			}
		}()
	}
	b, err := newBed(ctx, o.sizes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()

	results, err := measureAll(ctx, b, o, out)
	if err != nil {
		return err
	}
	text := markdown(describeMachine(b, o), results)
	if _, err := io.WriteString(out, "\n"+text); err != nil {
		return err
	}
	if o.out == "" {
		return nil
	}
	if err := writeDocument(o.out, text); err != nil {
		return err
	}
	return writeCharts(o.out, o.inFlight, results)
}
