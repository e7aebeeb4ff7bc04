package main

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// standIn is a queue for measurements: it speaks as much of SQS's protocol as
// the service uses, and does nothing but hand out the same messages over and
// over, so that it is not what limits the service.
type standIn struct {
	url     string
	encoded [][]byte
	next    atomic.Uint64
	deleted atomic.Uint64
	denied  func(http.ResponseWriter) // answers deletes in place of the queue; nil: they work
}

func newStandIn(b testing.TB, bodies []string) *standIn {
	s := &standIn{}
	sent := time.Now().UnixMilli()
	for _, body := range bodies {
		text, err := json.Marshal(body)
		if err != nil {
			b.Fatal(err)
		}
		sum := md5.Sum([]byte(body))
		s.encoded = append(s.encoded, fmt.Appendf(nil,
			`"MD5OfBody":%q,"Attributes":{"SentTimestamp":"%d","ApproximateReceiveCount":"1"},"Body":%s}`,
			hex.EncodeToString(sum[:]), sent, text))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s.url = "http://" + listener.Addr().String()
	server := &http.Server{Handler: s}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	b.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return s
}

// standInEnviron points the program at the stand-in.
func (w *world) standInEnviron(s *standIn) []string {
	return w.settings("AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_SQS="+s.url, "QUEUE_URL="+s.url+"/1/q", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x")
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
	case "ReceiveMessage":
		var asked struct{ MaxNumberOfMessages int }
		if err := json.Unmarshal(body, &asked); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.receive(w, asked.MaxNumberOfMessages)
		return
	case "DeleteMessageBatch":
		if s.denied != nil {
			s.denied(w)
			return
		}
		s.deleted.Add(uint64(bytes.Count(body, []byte(`"ReceiptHandle"`))))
	case "GetQueueAttributes":
		_, _ = io.WriteString(w, `{"Attributes":{"ApproximateNumberOfMessages":"0"}}`)
		return
	}
	_, _ = io.WriteString(w, `{"Successful":[],"Failed":[]}`)
}

// receive answers with ten messages. It says how long the answer is, as the
// queue itself does, and copies nothing.
func (s *standIn) receive(w http.ResponseWriter, most int) {
	const beginning, end = `{"Messages":[`, `]}`
	parts := [][]byte{[]byte(beginning)}
	for i := range most {
		n := s.next.Add(1)
		separator := ","
		if i == 0 {
			separator = ""
		}
		parts = append(parts, fmt.Appendf(nil, `%s{"MessageId":"m-%d","ReceiptHandle":"r-%d",`, separator, n, n), s.encoded[n%uint64(len(s.encoded))])
	}
	parts = append(parts, []byte(end))
	length := 0
	for _, part := range parts {
		length += len(part)
	}
	w.Header().Set("Content-Length", strconv.Itoa(length))
	for _, part := range parts {
		_, _ = w.Write(part)
	}
}
