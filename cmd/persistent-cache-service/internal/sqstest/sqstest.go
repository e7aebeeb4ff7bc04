// Package sqstest starts a real SQS API for tests: the emulator fauxqs, which
// scripts/install-fauxqs.sh installs. A test that finds none fails and says so.
package sqstest

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
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
	cmd := exec.Command("node", script, dist, strconv.Itoa(port))
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
	for len(bodies) > 0 {
		n := min(10, len(bodies))
		for total := 0; n > 1; n-- { // a batch may be 256 kB in all
			total = 0
			for _, b := range bodies[:n] {
				total += len(b)
			}
			if total < 250<<10 {
				break
			}
		}
		entries := make([]types.SendMessageBatchRequestEntry, n)
		for i := range entries {
			entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &bodies[i]}
		}
		out, err := s.client.SendMessageBatch(context.Background(), &sqs.SendMessageBatchInput{QueueUrl: &queueURL, Entries: entries})
		if err != nil {
			s.t.Fatal(err)
		}
		if len(out.Failed) > 0 {
			s.t.Fatalf("send: %s", aws.ToString(out.Failed[0].Message))
		}
		bodies = bodies[n:]
	}
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
