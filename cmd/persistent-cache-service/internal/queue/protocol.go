package queue

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// maxAnswer is the largest answer that is read, in bytes: ten messages of a
	// mebibyte, of which escapes make three times as much.
	maxAnswer = 32 << 20
	// maxKept is the largest buffer that is kept for the next answer.
	maxKept = 1 << 20
)

var errAnswerTooLarge = errors.New("answer is too large")

// protocol is the protocol of the AWS client, with a way of its own to read
// what ReceiveMessage answers. The client's takes several times the memory and
// the processor time, for what is nearly all that the service reads. It is
// asked all the same whenever an answer is not a list of messages as it should
// be, so that errors are the client's.
type protocol struct {
	smithyhttp.ClientProtocol
	buffers sync.Pool // of *buffers
}

// buffers are what reading one answer needs.
type buffers struct {
	answer, text []byte
}

// DeserializeResponse implements smithyhttp.ClientProtocol.
func (p *protocol) DeserializeResponse(ctx context.Context, operation *smithy.OperationSchema, known *smithy.TypeRegistry, answer *smithyhttp.Response, out smithy.Deserializable) error {
	received, ours := out.(*sqs.ReceiveMessageOutput)
	if !ours || answer.StatusCode < http.StatusOK || answer.StatusCode >= http.StatusMultipleChoices {
		return p.ClientProtocol.DeserializeResponse(ctx, operation, known, answer, out)
	}
	b, _ := p.buffers.Get().(*buffers)
	if b == nil {
		b = &buffers{}
	}
	defer p.keep(b)
	askRoom(ctx, answer.ContentLength)
	if err := b.read(answer.Body, answer.ContentLength); err != nil {
		// Else the client would read the rest, to use the connection again.
		_ = answer.Body.Close()
		return &smithy.DeserializationError{Err: err}
	}
	e := envelope{data: b.answer, scratch: b.text}
	messages, ok := e.read()
	b.text = e.scratch
	if ok {
		received.Messages = messages
		return nil
	}

	body := answer.Body
	defer func() { answer.Body = body }() // who closes it has to find it
	answer.Body = io.NopCloser(bytes.NewReader(b.answer))
	if err := p.ClientProtocol.DeserializeResponse(ctx, operation, known, answer, out); err != nil {
		return err
	}
	for i := range received.Messages {
		if m := &received.Messages[i]; m.Body != nil {
			checkBody(m, md5.Sum([]byte(*m.Body))) //nolint:gosec // guards against damage, not against malice
		}
	}
	return nil
}

// read reads all of an answer of the given length, which is negative when the
// answer does not say.
func (b *buffers) read(body io.Reader, length int64) error {
	const atLeast = 4 << 10
	b.answer = b.answer[:0]
	// One byte more than there is tells the end without another growth.
	if first := int(min(max(length, 0), maxAnswer)) + 1; cap(b.answer) < first {
		b.answer = make([]byte, 0, max(first, atLeast))
	}
	for {
		n, err := body.Read(b.answer[len(b.answer):cap(b.answer)])
		b.answer = b.answer[:len(b.answer)+n]
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(b.answer) > maxAnswer:
			return errAnswerTooLarge
		case len(b.answer) == cap(b.answer):
			b.answer = append(make([]byte, 0, 2*cap(b.answer)), b.answer...)
		}
	}
}

// keep keeps the buffers for the next answer.
func (p *protocol) keep(b *buffers) {
	if cap(b.answer) <= maxKept && cap(b.text) <= maxKept {
		p.buffers.Put(b)
	}
}
