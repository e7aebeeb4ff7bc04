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

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	var out bytes.Buffer
	switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
	case "ReceiveMessage":
		out.WriteString(`{"Messages":[`)
		for i := range 10 {
			n := s.next.Add(1)
			if i > 0 {
				out.WriteByte(',')
			}
			fmt.Fprintf(&out, `{"MessageId":"m-%d","ReceiptHandle":"r-%d",`, n, n)
			out.Write(s.encoded[n%uint64(len(s.encoded))])
		}
		out.WriteString(`]}`)
	case "DeleteMessageBatch":
		s.deleted.Add(uint64(bytes.Count(body, []byte(`"ReceiptHandle"`))))
		out.WriteString(`{"Successful":[],"Failed":[]}`)
	case "GetQueueAttributes":
		out.WriteString(`{"Attributes":{"ApproximateNumberOfMessages":"0"}}`)
	default:
		out.WriteString(`{"Successful":[],"Failed":[]}`)
	}
	_, _ = w.Write(out.Bytes())
}
